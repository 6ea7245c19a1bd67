"""Persons get twins: what somebody wrote goes in; text in their voice, and answers from their words, come out."""
