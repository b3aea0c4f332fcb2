"""GELU in its tanh form, forward and backward in one pass each.

torch's own kernel on every device: it reads and writes what has to be, and no more. The Triton
form in `fused.py` is measured beside it by `python -m benchmarks.gpu`, and takes its place where it
is shown to be faster.
"""

from llmkit.kernels.gelu.torch_native import gelu as gelu
