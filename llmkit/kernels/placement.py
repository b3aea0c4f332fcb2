"""Which form of an operation runs: Triton on a CUDA device, native code or torch's on a CPU.

Triton is imported only by the `fused.py` of an operation, and that only when it is chosen here (or
by a test, through Triton's interpreter). Native code is compiled when it is first chosen
(`native.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from llmkit.kernels import native

PLAIN = (Tensor, nn.Parameter)


def takes_triton(x: Tensor) -> bool:
    """Whether an operation on `x` is to run by its Triton kernels.

    Not inside a graph that `torch.compile` traces: there Inductor fuses torch's own form with its
    neighbours, which a kernel of ours would keep apart. Nor on another device than the current one,
    where Triton would launch its kernels.
    """
    if torch.compiler.is_compiling() or not x.is_cuda:
        return False
    return x.device.index == torch.cuda.current_device()


def takes_native(op: str, *tensors: Tensor) -> bool:
    """Whether an operation is to run by its native code.

    Not while anybody traces, transforms or watches torch's operations (a dispatch mode), and not
    for tensors without memory of their own: native code reads addresses.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if not all(type(x) in PLAIN and x.device.type == "cpu" and x.numel() for x in tensors):
        return False
    if _get_current_dispatch_mode() is not None or torch._C._are_functorch_transforms_active():
        return False
    return native.available(op)
