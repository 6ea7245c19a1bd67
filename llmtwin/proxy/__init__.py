"""A pass-through in front of a primary model, and the mirror beside it that shows a twin the same traffic."""
