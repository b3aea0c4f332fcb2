"""GELU in its tanh form, forward and backward in one pass each."""

from llmkit.kernels.gelu.torch_native import gelu as gelu
