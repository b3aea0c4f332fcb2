"""Which form of an operation runs: Triton on a CUDA device, torch's own operations elsewhere.

Triton is imported only by the `fused.py` of an operation, and that only when it is chosen here (or
by a test, through Triton's interpreter).
"""

from __future__ import annotations

import torch
from torch import Tensor


def takes_triton(x: Tensor) -> bool:
    """Whether an operation on `x` is to run by its Triton kernels.

    Not inside a graph that `torch.compile` traces: there Inductor fuses torch's own form with its
    neighbours, which a kernel of ours would keep apart. Nor on another device than the current one,
    where Triton would launch its kernels.
    """
    if torch.compiler.is_compiling() or not x.is_cuda:
        return False
    return x.device.index == torch.cuda.current_device()
