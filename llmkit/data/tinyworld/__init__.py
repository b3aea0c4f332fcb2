"""A small fictional world from a seed, and the small web about it, whose truth is known."""
