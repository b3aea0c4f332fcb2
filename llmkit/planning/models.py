"""The model that each stage of a recipe trains, known from configurations alone.

A model on the Hub is known where its `config.json` lies in the local cache, and GPT-2's four sizes
always are: https://huggingface.co/openai-community/gpt2-xl/blob/main/config.json and its like.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmkit.cost.shapes import Shape, shape_of
from llmkit.fields import config_fields, model_types
from llmkit.planning.launches import Launch, launches_of
from llmkit.recipe import Recipe
from llmkit.references import facts_of_folder
from llmkit.stage import Facts
from llmkit.stages.pretrain import POSITIONS, Pretrain

GPT2_SIZES = {
    "gpt2": (12, 768, 12),
    "gpt2-medium": (24, 1024, 16),
    "gpt2-large": (36, 1280, 20),
    "gpt2-xl": (48, 1600, 25),
}


@dataclass(frozen=True, kw_only=True)
class Known:
    """A stage of a recipe, and what is known of its training before it runs.

    Attributes:
        shape: of the model that it trains; None where that is not known.
        context: tokens a row at most, where it is known.
        launches: that share the model among ranks.
    """

    name: str
    kind: str
    stage: Any
    shape: Shape | None
    context: int | None
    launches: tuple[Launch, ...] = ()


def known_of(recipe: Recipe) -> dict[str, Known]:
    """Every stage by its name, in order."""
    shapes, facts = models_of(recipe), facts_of(recipe)
    found = {}
    for name, stage in recipe.stages.items():
        shards = upstream_of(recipe, name, facts).get(str(getattr(stage, "shards", None)), Facts())
        found[name] = Known(
            name=name,
            kind=recipe.kinds[name],
            stage=stage,
            shape=shapes[name],
            context=shards.context_length or facts[name].context_length,
            launches=launches_of(recipe, name),
        )
    return found


def facts_of(recipe: Recipe) -> dict[str, Facts]:
    """Stage -> what is known of what it makes, before anything runs."""
    found: dict[str, Facts] = {}
    for name, stage in recipe.stages.items():
        found[name] = stage.facts(upstream_of(recipe, name, found))
    return found


def upstream_of(recipe: Recipe, name: str, facts: Mapping[str, Facts]) -> dict[str, Facts]:
    """Reference as the stage writes it -> what is known of its target."""
    upstream = {}
    for text, target in recipe.references[name].items():
        known = facts_of_folder(target) if isinstance(target, Path) else facts.get(target)
        upstream[text] = known or Facts()
    return upstream


def models_of(recipe: Recipe) -> dict[str, Shape | None]:
    """Stage -> the shape of the model that it trains; None where that is not known."""
    facts = facts_of(recipe)
    shapes: dict[str, Shape | None] = {}
    for name, stage in recipe.stages.items():
        if isinstance(stage, Pretrain) and stage.model is None:
            shapes[name] = fresh(stage, facts[name])
            continue
        given = getattr(stage, "model", None)
        target = recipe.references[name].get(given) if isinstance(given, str) else None
        shape = shape_at(target, shapes) if target is not None else None
        more = getattr(stage, "new_layers", 0)  # of a reward model, on top
        shapes[name] = replace(shape, layers=shape.layers + more) if shape is not None else None
    return shapes


def fresh(stage: Pretrain, facts: Facts) -> Shape | None:
    """The model that a pretrain stage makes of its `config`, its tokenizer and its shards."""
    given = dict(stage.config)
    model_type = given.setdefault("model_type", "gpt2")
    if facts.vocab_size is not None:
        given["vocab_size"] = facts.vocab_size
    if facts.context_length is not None:
        given |= dict.fromkeys(POSITIONS, facts.context_length)
    return shape_of(completed(model_type, given))


def completed(model_type: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with its defaults, and each alias of a key with the key's value."""
    if model_type not in model_types():
        return dict(given)
    kinds = config_fields(model_type)
    whole = {name: kind.default for name, kind in kinds.items()} | dict(given)
    for name in given:
        # An alias shares its field's description: `hidden_size` is `n_embd`.
        for other, kind in kinds.items():
            if other not in given and kind is kinds.get(name):
                whole[other] = given[name]
    return whole


def shape_at(target: str | Path, shapes: Mapping[str, Shape | None]) -> Shape | None:
    """Of an earlier stage, a model folder, or a Hub id."""
    if isinstance(target, str) and target in shapes:
        return shapes[target]
    if isinstance(target, Path):
        return shape_in(target / "config.json")
    sizes = GPT2_SIZES.get(target.removeprefix("openai-community/"))
    if sizes is not None:
        named = dict(zip(("n_layer", "n_embd", "n_head"), sizes, strict=True))
        return shape_of(completed("gpt2", {"model_type": "gpt2", **named}))
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(target, "config.json")
    return shape_in(Path(cached)) if isinstance(cached, str) else None


def shape_in(file: Path) -> Shape | None:
    if not file.is_file():
        return None
    config = json.loads(file.read_text(encoding="utf-8"))
    return shape_of(completed(str(config.get("model_type")), config))
