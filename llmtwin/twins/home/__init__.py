"""Homes get twins: what Home Assistant knows of a home goes in, answers and orders come out."""

from llmtwin.twins.home.kind import HomeKind

__all__ = ["HomeKind"]
