"""Building components from mappings: every fault at once, each with its path and remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
import yaml

from llmkit.build import FORMER, OWNED, Builder, in_place_of
from llmkit.schema import Keyed, Named, Passes, Refers


@dataclass(frozen=True, kw_only=True)
class Inner:
    depth: int = 1
    share: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Hub:
    hub: str
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Thing:
    size: int
    word: Literal["red", "green"] = "red"
    inner: Inner = Inner()
    names: list[str] = ()  # type: ignore[assignment]
    maybe: int | None = None
    args: Annotated[dict[str, Any], Passes("trl.SFTConfig")] | None = None
    config: Annotated[dict[str, Any] | None, Passes("transformers.AutoConfig")] = None
    steps: Annotated[list[Any], Named("test_build:STEPS")] = ()  # type: ignore[assignment]
    sources: Annotated[list[Any], Keyed("test_build:SOURCES")] = ()  # type: ignore[assignment]
    model: Annotated[str | None, Refers("model")] = None
    models: Annotated[list[str], Refers("model")] = ()  # type: ignore[assignment]


STEPS = {"inner": "test_build:Inner"}
SOURCES = {"hub": "test_build:Hub"}


def build(**mapping: object) -> tuple[Any, Builder]:
    builder = Builder()
    return builder.build(Thing, {"size": 1, **mapping}, ("thing",)), builder


def faults(**mapping: object) -> list[str]:
    thing, builder = build(**mapping)
    assert (thing is None) == bool(builder.problems)
    return [str(problem) for problem in builder.problems]


def test_what_fits_is_built() -> None:
    thing, builder = build(
        word="green",
        inner={"depth": 2},
        names=["a"],
        args={"learning_rate": 1e-4},
        config={"model_type": "llama", "hidden_size": 64},
        steps=["inner", {"inner": {"depth": 3}}, {"inner": None}],
        sources=[{"hub": "a/b", "limit": 2}],
        model="pretrain",
        models=["a", "b"],
    )
    assert builder.problems == []
    assert thing.inner == Inner(depth=2)
    assert thing.steps == (Inner(), Inner(depth=3), Inner())
    assert thing.sources == (Hub(hub="a/b", limit=2),)
    assert [r.value for r in builder.references] == ["pretrain", "a", "b"]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"sise": 1}, "thing.sise: no such key in Thing; did you mean size?"),
        ({"size": "x"}, "thing.size: must be a whole number, not the text 'x'"),
        ({"size": True}, "thing.size: must be a whole number, not true"),
        ({"size": None}, "thing.size: must be a whole number, not nothing"),
        (
            {"word": "gren"},
            "thing.word: must be one of red, green, not the text 'gren'; did you mean green?",
        ),
        ({"inner": {"dept": 1}}, "thing.inner.dept: no such key in Inner; did you mean depth?"),
        ({"inner": 3}, "thing.inner: Inner takes a mapping, not the number 3"),
        ({"inner": {"share": "half"}}, "thing.inner.share: must be a number, not the text 'half'"),
        ({"names": "a"}, "thing.names: must be a list, not the text 'a'"),
        ({"names": ["a", 2]}, "thing.names[1]: must be a text, not the number 2"),
        ({"maybe": "x"}, "thing.maybe: must be a whole number or nothing, not the text 'x'"),
        (
            {"args": {"lerning_rate": 1}},
            "thing.args.lerning_rate: no such key in SFTConfig; did you mean learning_rate?",
        ),
        (
            {"args": {"max_steps": "5"}},
            "thing.args.max_steps: must be a whole number, not the text '5'",
        ),
        ({"args": []}, "thing.args: must be a mapping"),
        (
            {"config": {"n_layr": 3}},
            "thing.config.n_layr: no such key in GPT2Config; did you mean n_layer?",
        ),
        *(
            (
                {"config": {"model_type": "llama", key: 1}},
                f"thing.config.{key}: no such key in LlamaConfig; it is `rope_parameters: "
                "{rope_type: default, rope_theta: 500000.0}` since transformers 5",
            )
            for key in ("rope_theta", "rope_scaling")
        ),
        ({"config": {"model_type": "gpt3"}}, "thing.config.model_type: 'gpt3' is no causal model"),
        ({"steps": ["iner"]}, "thing.steps[0]: no 'iner' here; did you mean inner?"),
        ({"steps": [{"inner": {"dpth": 1}}]}, "thing.steps[0].inner.dpth: no such key in Inner"),
        ({"sources": [{"hbu": "x"}]}, "thing.sources[0]: holds none of hub; did you mean hub?"),
        ({"sources": [{"hub": "x", "limt": 1}]}, "thing.sources[0].limt: no such key in Hub"),
        ({"model": 3}, "thing.model: must name a stage that makes model, not the number 3"),
        ({"models": []}, "thing.models: must be a list of names"),
    ],
)
def test_faults_are_named_with_path_and_remedy(mapping: dict, message: str) -> None:
    found = faults(**mapping)
    assert len(found) == 1
    assert found[0].startswith(message), found[0]


def test_where_no_key_is_near_all_are_told() -> None:
    (message,) = faults(inner={"zzz": 1})
    assert message == "thing.inner.zzz: no such key in Inner; there are depth, share"


def test_a_missing_key_is_named() -> None:
    builder = Builder()
    assert builder.build(Thing, {}, ()) is None
    assert [str(p) for p in builder.problems] == ["size: Thing needs this key"]


@pytest.mark.parametrize("key", [*OWNED, "hub_token", "hub_model_id"])
def test_what_the_runner_owns_is_refused_with_its_way(key: str) -> None:
    (message,) = faults(args={key: "x"})
    assert message.startswith(f"thing.args.{key}: set by llmkit; ")


def test_all_faults_come_at_once() -> None:
    assert len(faults(size="x", word=1, inner={"a": 1, "b": 2}, args={"x": 1, "y": 2})) == 6


def test_what_is_said_of_former_keys_is_so() -> None:
    """The remedies, taken at their word; a class that never had the key is told its nearest."""
    from transformers import LlamaConfig, TrainingArguments

    said = {key: yaml.safe_load(remedy.split("`")[1]) for key, (_, remedy) in FORMER.items()}
    known = {"rope_parameters", "warmup_steps", "rope_thetas"}
    assert all(in_place_of(key, known) == FORMER[key][1] for key in FORMER)
    assert in_place_of("rope_theta", {"rope_thetas"}) == "did you mean rope_thetas?"
    for key in ("rope_theta", "rope_scaling"):
        config = LlamaConfig(**said[key])
        assert config.rope_parameters == {"rope_type": "default", "rope_theta": 500000.0}
    arguments = TrainingArguments("unused", **said["warmup_ratio"])
    assert arguments.get_warmup_steps(50) == 5
