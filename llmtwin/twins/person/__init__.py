"""Persons get twins: what somebody wrote goes in; their voice and answers from their words come out."""
