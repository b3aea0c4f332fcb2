"""What training costs before and while it runs: FLOPs, memory, speed. Imports nothing heavy."""
