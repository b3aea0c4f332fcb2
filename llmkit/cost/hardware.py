"""The accelerators that a plan knows, by their makers' figures, and how one is asked for.

Dense rates alone: the makers' larger figures count on sparsity. The memory is the nominal one, of
which a plan leaves `RESERVE` to the driver, the allocator and the collectives.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import get_close_matches

from llmkit.errors import UserError

GIB = 2**30
RESERVE = 0.08  # an H100 of 80 GiB shows 79.1, and no allocator fills it to the brim
CPU = "cpu"
PLAIN_CPU = "cpu-fp32"
REMEDY = "write NxNAME, such as 8xH100"


@dataclass(frozen=True)
class Accelerator:
    """A GPU, or a core of a CPU.

    Attributes:
        flops: dense bfloat16 FLOP/s with float32 sums (float16 where there is no bfloat16).
        bandwidth: of its memory, bytes/s.
        memory: bytes; 0 for a CPU, whose cores share what the machine has.
        source: where the figures are from.
        bf16: whether it computes in bfloat16 at that rate.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float
    source: str
    bf16: bool = True


@dataclass(frozen=True)
class Hardware:
    """`count` accelerators of one kind, with `memory` bytes for each rank."""

    accelerator: Accelerator
    count: int

    def __str__(self) -> str:
        return f"{self.count}x{self.accelerator.name}"

    @property
    def ranks(self) -> int:
        """Processes that train: one a GPU; on a CPU one, whose threads are the cores."""
        return 1 if self.accelerator.name in CPUS else self.count

    @property
    def flops(self) -> float:
        """Of all accelerators together, FLOP/s."""
        return self.count * self.accelerator.flops

    @property
    def memory(self) -> float:
        """Bytes that one rank may take."""
        if self.accelerator.name in CPUS:
            return machine_memory() * (1 - RESERVE)
        return self.accelerator.memory * (1 - RESERVE)


TABLE = (
    Accelerator(
        "A100",
        312e12,
        2.039e12,
        80 * GIB,
        "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/"
        "nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf",
    ),
    Accelerator(
        "H100", 989e12, 3.35e12, 80 * GIB, "https://www.nvidia.com/en-us/data-center/h100/"
    ),
    Accelerator(
        "H200", 989e12, 4.8e12, 141 * GIB, "https://www.nvidia.com/en-us/data-center/h200/"
    ),
    Accelerator(
        "B200", 2250e12, 8e12, 180 * GIB, "https://www.nvidia.com/en-us/data-center/dgx-b200/"
    ),
    Accelerator("L4", 121e12, 0.3e12, 24 * GIB, "https://www.nvidia.com/en-us/data-center/l4/"),
    Accelerator(
        "4090",
        165.2e12,
        1.008e12,
        24 * GIB,
        "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf",
    ),
    Accelerator(
        "T4",
        65e12,
        0.3e12,
        16 * GIB,
        "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/tesla-t4/"
        "t4-tensor-core-datasheet-951643.pdf",
        bf16=False,
    ),
    # One core with AMX: half of what two reach in a bfloat16 product of 4,096 cubed.
    Accelerator(CPU, 1.04e12, 10e9, 0, "measured: docs/plan.md, The CPU"),
    # One core with AVX2 and no AMX, in float32: a product of 2,048 cubed.
    Accelerator(PLAIN_CPU, 71.5e9, 10e9, 0, "measured: docs/plan.md, The CPU", bf16=False),
)
ACCELERATORS = {item.name.lower(): item for item in TABLE}
CPUS = (CPU, PLAIN_CPU)

# What torch calls them -> the table's name; the first that the device's name holds counts.
DEVICE_NAMES = {
    "A100": "a100",
    "H100": "h100",
    "H200": "h200",
    "B200": "b200",
    "NVIDIA L4": "l4",
    "RTX 4090": "4090",
    "T4": "t4",
}


def hardware_of(text: str) -> Hardware:
    """`8xH100` -> eight of them; `T4` is one.

    Raises:
        UserError: the form is another, or the table has no such accelerator.
    """
    found = re.fullmatch(r"(?:(\d+)\s*x\s*)?([\w-]+)", text.strip(), re.IGNORECASE)
    if found is None:
        raise UserError("--hardware", f"{text!r} names no hardware", meant(text) or REMEDY)
    name = found[2].lower()
    if name not in ACCELERATORS:
        known = f"it holds {', '.join(item.name for item in TABLE)}"
        raise UserError("--hardware", f"no {found[2]!r} in the table", meant(text) or known)
    count = int(found[1] or 1)
    if count < 1:
        raise UserError("--hardware", f"{text!r} is no hardware at all", REMEDY)
    return Hardware(ACCELERATORS[name], count)


def meant(text: str) -> str:
    """`did you mean 8xH100?`, or nothing where no name is near. A count that was written stays.

    >>> meant("8H100"), meant("H100 x 8"), meant("2x4091"), meant("TPUv5")
    ('did you mean 8xH100?', 'did you mean 8xH100?', 'did you mean 2x4090?', '')
    """
    text = text.strip().lower()
    for name, device in ACCELERATORS.items():
        found = re.fullmatch(rf"([1-9]\d*)[\W_x]*{name}|{name}[\W_x]*([1-9]\d*)", text)
        if found is not None:
            return f"did you mean {found[1] or found[2]}x{device.name}?"
    counted = re.fullmatch(r"([1-9]\d*)(?:[\W_x]+|(?=[a-z]))(.+)", text)
    times, name = (f"{counted[1]}x", counted[2]) if counted is not None else ("", text)
    near = get_close_matches(name, ACCELERATORS, n=1)
    return f"did you mean {times}{ACCELERATORS[near[0]].name}?" if near else ""


def device_named(name: str) -> Accelerator | None:
    """The table's entry for a device as torch names it; None where it has none.

    A name that holds two of them (`GH200`) is none: the longer is another device.
    """
    if "GH200" in name or "GB200" in name or "PCIe" in name and "H100" in name:
        return None
    for part, key in DEVICE_NAMES.items():
        if re.search(rf"\b{re.escape(part)}\b", name):
            return ACCELERATORS[key]
    return None


def machine_memory() -> int:
    """Bytes of this machine's main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
