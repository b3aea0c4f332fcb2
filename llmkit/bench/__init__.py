"""Measurements that a user runs: `llmkit bench WHAT`, a file each."""
