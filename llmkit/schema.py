"""How a component says what its recipe keys are.

A component is a frozen, keyword-only dataclass; its fields are its keys. Plain annotations
(`int`, `str | None`, `list[str]`, `Literal[...]`, another such dataclass) say the type. The four
marks below, worn in `typing.Annotated`, say what a plain type cannot.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Passes:
    """A mapping whose keys are the arguments of a Hugging Face class, by their own names.

    `to` names the class, as `"trl.SFTConfig"`; the field tables are `llmkit.fields`. For a model
    configuration `to` is `"transformers.AutoConfig"`, and `model_type` in the mapping selects it.
    """

    to: str


@dataclass(frozen=True)
class Refers:
    """The name of an earlier stage that makes `kind`: documents, tokenizer, shards or model.

    A model may also be a local folder or a Hub id. With a default of `None` the reference is
    filled in with the one earlier stage that makes `kind`; an `optional` one stays None where no
    stage makes it, and one that is not `implied` wherever it is left out.
    """

    kind: str
    optional: bool = False
    implied: bool = True


@dataclass(frozen=True)
class Named:
    """A list of components picked by name: `- gopher_quality` or `- minhash: {num_buckets: 20}`.

    `table` is a literal dict `name -> "module:Class"`, itself given as `"module:TABLE"`. A word of
    `presets`, a literal dict `name -> list of components` given likewise, stands for its list.
    """

    table: str
    presets: str | None = None


@dataclass(frozen=True)
class Keyed:
    """A list of mappings, each told apart by the one key of `table` that it holds.

    `{hub: HuggingFaceFW/fineweb, name: sample-10BT}` is the class of `hub`, and all keys of the
    mapping, `hub` among them, are fields of that class.
    """

    table: str
