"""Twins of language models: what passes through a model is watched, measured, learned, and gated."""
