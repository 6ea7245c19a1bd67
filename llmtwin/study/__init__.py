"""Experiments with whole twins: the demo, what is measured of it, and its report."""
