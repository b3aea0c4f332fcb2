"""How a stage is made by several processes, as far as one can tell it from one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_stages
import pytest

from llmkit import making
from llmkit.errors import LlmkitError, UserError
from llmkit.making import Maker
from llmkit.ranks import Ranks


class Told(Ranks):
    """The second of two processes, to which the first one says what stands in `words`."""

    words: list[Any]

    def told(self, value: Any) -> Any:
        return self.words.pop(0)

    def _roll_call(self, key: str) -> bool:
        return True


def follower(folder: Path, *words: Any) -> Maker:
    ranks = Told(rank=1, count=2)
    object.__setattr__(ranks, "words", list(words))
    return Maker(fake_stages.recipe(folder), folder, ranks=ranks)


def test_a_follower_runs_what_it_is_called_to_and_shows_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = tmp_path / ".words.partial"
    partial.mkdir()
    (partial / "stage.json").write_text("{}")
    follower(tmp_path, "words", None).follow()
    assert (partial / "words.txt").read_text() == "a 0 0\na 1 0\na 2 0\n"
    assert (partial / "stage.json").read_text() == "{}"  # the record is the first one's to write
    assert capsys.readouterr() == ("", "")


def test_what_befell_the_first_one_is_raised(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="here: this; do that"):
        follower(tmp_path, UserError("here", "this", "do that")).follow()


def test_a_folder_that_is_not_shared_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "SIGHT", 0.05)
    with pytest.raises(UserError, match=r"\.words\.partial: is not there for process 1.*one file"):
        follower(tmp_path, "words", None).follow()


def test_a_fault_of_the_first_one_is_handed_on_while_the_others_listen(tmp_path: Path) -> None:
    class Heard(Ranks):
        said: list[Any]

        def told(self, value: Any) -> Any:
            self.said.append(value)
            return value

    for called, expected in ((False, "failed: division by zero"), (True, None)):
        ranks = Heard(count=2)
        object.__setattr__(ranks, "said", [])
        maker = Maker(fake_stages.recipe(tmp_path), tmp_path, ranks=ranks, called=called)
        with pytest.raises(ZeroDivisionError), maker.leading():
            raise ZeroDivisionError("division by zero")
        if expected is None:
            assert ranks.said == []  # they are in the same stage, and not listening
        else:
            assert isinstance(ranks.said[0], LlmkitError) and str(ranks.said[0]) == expected
