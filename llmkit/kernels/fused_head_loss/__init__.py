"""The language-model head and its cross-entropy without ever holding all the logits."""

from llmkit.kernels.fused_head_loss.chunked import fused_head_loss as fused_head_loss
