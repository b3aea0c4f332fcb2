"""Causal attention of whole sequences, without a mask."""

from llmkit.kernels.attention.placed import causal_attention as causal_attention
