"""`python -m benchmarks.gpu --out DIR`: all that is measured on a GPU, in under nine minutes."""
