"""Which form of an operation a test runs, and fresh memory that holds NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from llmkit.device import cpu_flags
from llmkit.kernels import native


@pytest.fixture
def needs_native() -> Callable[[str], None]:
    """Skip where the machine cannot have a native form; a failed build is no reason."""

    def check(op: str) -> None:
        reason = native.refusal(op, cpu_flags())
        if reason:
            pytest.skip(reason)
        native.library(op)

    return check


@pytest.fixture(params=["torch", "native"])
def form(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    needs_native: Callable[[str], None],
) -> str:
    """Torch's form and the native one where the machine has it, whatever would be chosen here."""
    if request.param == "native":
        for op in ("gelu", "fused_head_loss", "layer_norm"):
            needs_native(op)
        monkeypatch.setattr("llmkit.kernels.gelu.native.FEWEST_ELEMENTS", 1)
        monkeypatch.setattr("llmkit.kernels.layer_norm.native.FEWEST_ELEMENTS", 1)
    else:
        monkeypatch.setattr(native, "available", lambda op: False)
    return str(request.param)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Uninitialised memory holds NaN."""
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = before
