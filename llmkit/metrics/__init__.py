"""`evaluate.Metric` classes of our own, each with its 95 % interval; no network, no scripts."""
