"""Fused operations, a folder each: the formula in `reference.py`, and faster forms beside it."""
