"""GELU in its tanh form, forward and backward in one pass each."""

from llmkit.kernels.gelu.placed import gelu as gelu
