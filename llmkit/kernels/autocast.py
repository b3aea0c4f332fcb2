"""In which dtype autocast has products computed, and how to do without it, on any device.

Autocast lowers every floating dtype but float64, which it leaves as it is
(https://docs.pytorch.org/docs/stable/amp.html#op-eligibility). Devices that it does not know, such
as meta, it leaves alone too; torch raises when asked about one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def compute_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype in which a product of tensors of `dtype` on `device` is computed here."""
    lowered = dtype.is_floating_point and dtype != torch.float64
    if not lowered or not torch.amp.is_autocast_available(device.type):
        return dtype
    on = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if on else dtype


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Operations on `device` run in the dtypes that they are given."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
