"""What the tests of training stages set up alike."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def inputs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the `make_inputs` of the test's module puts there."""
    folder = tmp_path_factory.mktemp("inputs")
    request.module.make_inputs(folder)
    return folder
