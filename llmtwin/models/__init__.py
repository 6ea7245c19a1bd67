"""Base models, adapters, tuning and engines: the one part that may own torch."""
