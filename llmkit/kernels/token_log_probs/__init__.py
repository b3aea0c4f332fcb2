"""Log-probability of each target and entropy of each row, without ever holding all the logits."""

from llmkit.kernels.token_log_probs.chunked import token_log_probs as token_log_probs
