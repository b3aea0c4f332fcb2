"""`gelu` where it suits: native code on a CPU that has it, torch's own kernel elsewhere.

torch's kernel reads and writes what has to be, and no more, but its tanh costs a CPU more than the
memory does. The Triton form in `fused.py` is measured beside it by `python -m benchmarks.gpu`, and
takes its place where it is shown to be faster.
"""

from __future__ import annotations

from torch import Tensor

from llmkit.kernels.gelu import native, torch_native
from llmkit.kernels.placement import takes_native


def gelu(x: Tensor) -> Tensor:
    """GELU of every element; `x` and the result have one shape, any, and one floating dtype."""
    if native.fits(x) and takes_native("gelu", x):
        return native.gelu(x)
    return torch_native.gelu(x)
