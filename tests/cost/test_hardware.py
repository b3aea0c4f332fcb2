"""The table of accelerators, and how a person or torch names one."""

from __future__ import annotations

import pytest

from llmkit.cost.hardware import ACCELERATORS, GIB, TABLE, device_named, hardware_of
from llmkit.errors import UserError


def test_what_a_person_writes() -> None:
    eight = hardware_of("8xH100")
    assert (eight.count, eight.accelerator.name, str(eight)) == (8, "H100", "8xH100")
    assert eight.ranks == 8 and eight.flops == 8 * 989e12
    assert hardware_of("t4").count == 1
    assert hardware_of(" 2 X a100 ") == hardware_of("2xA100")
    cores = hardware_of("2xcpu")
    assert cores.ranks == 1, "cores are the threads of one process"
    assert cores.memory > GIB, "a CPU's memory is this machine's"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("8xH10O", r"did you mean 8xH100\?"),
        ("8H100", r"did you mean 8xH100\?"),
        ("8 h100", r"did you mean 8xH100\?"),
        ("H100x8", r"did you mean 8xH100\?"),
        ("24090", r"did you mean 2x4090\?"),
        ("3090", r"did you mean 4090\?"),
        ("0xH100", "no hardware at all"),
        ("8 of H100", "names no hardware"),
        ("", "names no hardware"),
        ("TPUv5", "it holds A100, H100"),
    ],
)
def test_what_is_refused(text: str, what: str) -> None:
    with pytest.raises(UserError, match=f"--hardware: .*{what}"):
        hardware_of(text)


def test_every_entry_has_a_source_and_sensible_figures() -> None:
    assert {"A100", "H100", "H200", "B200", "L4", "4090", "T4", "cpu"} <= {a.name for a in TABLE}
    for item in TABLE:
        assert item.source.startswith(("https://", "measured"))
        if item.memory:
            # Between what a byte costs on a T4 and on an L4: a figure with sparsity falls outside.
            assert 150 <= item.flops / item.bandwidth <= 410, item.name


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA GeForce RTX 4090", "4090"),
        ("Tesla T4", "t4"),
        ("NVIDIA L40S", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA GeForce RTX 3090", None),
    ],
)
def test_what_torch_calls_them(name: str, key: str | None) -> None:
    assert device_named(name) is (ACCELERATORS[key] if key else None)
