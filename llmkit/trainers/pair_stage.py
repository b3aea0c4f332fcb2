"""`PairStage`: the recipe keys of the stages that train on preference pairs, and their laws.

Imports nothing heavy: a recipe check reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llmkit.errors import Problem, UserError
from llmkit.ranks import current
from llmkit.schema import Keyed, Passes, Refers
from llmkit.stage import Context, Facts, Stage
from llmkit.trainers.settings import Optimizer, Patches, trainer_problems

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from llmkit.trainers.pairs import PairRows

EVAL_FRACTION = 0.1  # of the prompts, where no eval_dataset is named

DATA = "llmkit prepares the pairs itself, by the chat template of the model's tokenizer"
LOADING = "llmkit loads the model itself, and runs no code that comes with it"
TOKENS = "the tokenizer of the model says it"
MEASURE = "the held-out pairs are measured once, when the training has ended"

# Arguments that say again, or against, what all these stages do.
REFUSED = {
    "dataset_num_proc": DATA,
    "model_init_kwargs": LOADING,
    "trust_remote_code": LOADING,
    "chat_template_path": TOKENS,
    "eos_token": TOKENS,
    "pad_token": TOKENS,
    "eval_strategy": MEASURE,
    "eval_steps": MEASURE,
    "eval_delay": MEASURE,
    "eval_on_start": MEASURE,
    "load_best_model_at_end": MEASURE,
    "metric_for_best_model": MEASURE,
    "greater_is_better": MEASURE,
}


@dataclass(frozen=True, kw_only=True)
class PairStage(Stage):
    """Keys of `reward` and `dpo`; each adds `args`, of its own TRL class, and `run`.

    Attributes:
        model: an earlier stage, a model folder or a Hub id (with `revision`).
        dataset: sources of preference pairs, mixed by their weights.
        eval_dataset: sources of the pairs to measure on. A prompt that is also trained on is
            left out of them.
        eval_fraction: of the prompts of `dataset`, held out with all their pairs where there is
            no `eval_dataset`; 0.1 where it is not given.
        peft: LoraConfig; then `adapter/` is saved beside the merged model.
        tokens_per_step: tokens (padding left out, both sides counted) that one update sees on
            average, over all ranks; sets `gradient_accumulation_steps`.
        max_bad_rows: bad rows, and as many pairs too long for the model, that may be left out.
    """

    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "trl", "accelerate", "peft")
    together: ClassVar[bool] = True
    refused: ClassVar[Mapping[str, str]] = {}  # arguments that this stage alone does not take
    task_type: ClassVar[str] = ""  # peft's name of what is trained

    model: Annotated[str, Refers("model")]
    dataset: Annotated[list[Any], Keyed("llmkit.data.chat.preferences:PREFERENCES")]
    eval_dataset: Annotated[list[Any] | None, Keyed("llmkit.data.chat.preferences:PREFERENCES")] = (
        None
    )
    eval_fraction: float | None = None
    revision: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    peft: Annotated[dict[str, Any] | None, Passes("peft.LoraConfig")] = None
    patches: Patches = "auto"
    optimizer: Optimizer = "adamw"
    tokens_per_step: int | None = None
    max_bad_rows: int = 0

    def facts(self, upstream: Mapping[str, Facts]) -> Facts:
        return upstream.get(self.model, Facts())

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        yield from self._base_problems(upstream.get(self.model, Facts()))
        yield from self._data_problems()
        yield from trainer_problems(
            self.args,
            {**REFUSED, **self.refused},
            self.patches,
            self.optimizer,
            self.tokens_per_step,
        )
        length = self.args.get("max_length")
        if length is not None and length < 1:
            yield Problem(("args", "max_length"), f"{length} is not positive")
        if "fused_head_loss" in self.patches:
            remedy = "leave it out: the loss here is not a language model's own"
            yield Problem(("patches",), "fused_head_loss does not go with pairs", remedy)

    def _base_problems(self, base: Facts) -> Iterator[Problem]:
        """What the model that training begins with makes impossible."""
        length = self.args.get("max_length")
        if length is not None and base.context_length is not None and length > base.context_length:
            remedy = f"{self.model} holds {base.context_length} tokens: ask for no more"
            yield Problem(("args", "max_length"), f"{length} is too long", remedy)
        if base.chat_template is False:
            remedy = "take a model whose tokenizer has a chat template"
            yield Problem(("model",), f"the tokenizer of {self.model} has no chat template", remedy)
        if base.pad_token is not None and base.pad_token == base.eos_token:
            remedy = "give the tokenizer a padding token of its own"
            yield Problem(("model",), f"pads with its end of text {base.eos_token}", remedy)

    def _data_problems(self) -> Iterator[Problem]:
        for key, sources in (("dataset", self.dataset), ("eval_dataset", self.eval_dataset)):
            if sources is not None and not sources:
                yield Problem((key,), "is empty", "name at least one source of pairs")
            if len({source.weight is None for source in sources or ()}) > 1:
                remedy = "give every source a weight, or none"
                yield Problem((key,), "some sources have a weight and some have none", remedy)
        fraction = self.eval_fraction
        if fraction is not None and self.eval_dataset is not None:
            yield Problem(("eval_fraction",), "stands beside eval_dataset", "keep one of the two")
        if fraction is not None and not 0 < fraction < 1:
            yield Problem(("eval_fraction",), f"{fraction} is not above 0 and below 1")
        if self.max_bad_rows < 0:
            yield Problem(("max_bad_rows",), f"{self.max_bad_rows} is negative")

    def files(self) -> Iterator[Path]:
        for source in (*self.dataset, *(self.eval_dataset or ())):
            yield from source.files()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        for source in (*self.dataset, *(self.eval_dataset or ())):
            yield from source.hub_data()

    def prepare(self, name: str) -> None:
        """Construct the Hugging Face configs, as the runner asks before the first stage."""
        from llmkit.trainers.launch import check_muon

        check_muon(name, self.optimizer)
        self._arguments(Path("."), 0, {}, name)
        self._peft_config(name)

    def _arguments(self, out: Path, seed: int, own: Mapping[str, Any], name: str) -> Any:
        """The stage's TRL config from `args`, and `own` above them."""
        raise TypeError(f"{type(self).__name__} does not say what its arguments are")

    def _given(self) -> dict[str, Any]:
        """`args` as TRL gets them. The rows are cut already, so TRL need not look."""
        refused = {**REFUSED, **self.refused}
        return {k: v for k, v in self.args.items() if k not in refused} | {"max_length": None}

    def _peft_config(self, name: str, model: PreTrainedModel | None = None) -> LoraConfig | None:
        if self.peft is None:
            return None
        from llmkit.trainers.adapters import lora_config

        return lora_config(self.peft, name, self.task_type, model)

    def _rows(
        self, context: Context, tokenizer: PreTrainedTokenizerFast, room: int
    ) -> tuple[PairRows, PairRows, dict[str, Any]]:
        """Pairs to train on and pairs held out, as ids; figures of both. The gates are passed."""
        from llmkit.data.chat.preferences import gathered
        from llmkit.data.sources.readers import BadRows
        from llmkit.trainers import pairs

        bad_rows = BadRows(self.max_bad_rows)
        where = (context.world, context.inputs, context.seed, bad_rows)
        found = gathered(self.dataset, *where)
        if self.eval_dataset is None:
            train, held_out = pairs.divided(found, self.eval_fraction or EVAL_FRACTION)
            seen = 0
        else:
            train = found
            held_out, seen = pairs.unseen(gathered(self.eval_dataset, *where), train)
        pairs.check_sides(train, held_out, context.name)
        length = self._length(room, context.name)
        trained = pairs.tokenized(tokenizer, train, length, f"{context.name}: tokenize")
        measured = pairs.tokenized(tokenizer, held_out, length, f"{context.name}: held out")
        pairs.gate_rows(context, tokenizer, trained, measured, self.max_bad_rows)
        figures = {
            "pairs": len(trained.pairs),
            "held_out_pairs": len(measured.pairs),
            "truncated": trained.truncated + measured.truncated,
            "left_out": trained.left_out + measured.left_out,
            "bad_rows": bad_rows.count,
        }
        return trained, measured, figures | ({"eval_prompts_in_training": seen} if seen else {})

    def _length(self, room: int, name: str) -> int:
        wanted = self.args.get("max_length") or room
        if wanted > room:
            what = f"{wanted} is more than the {room} tokens that the model holds"
            raise UserError(f"{name}.args.max_length", what, "ask for no more")
        return int(wanted)

    def _schedule(self, rows: PairRows) -> dict[str, Any]:
        """`gradient_accumulation_steps` for about `tokens_per_step` tokens an update."""
        if self.tokens_per_step is None:
            return {}
        batch = self.args.get("per_device_train_batch_size", 8)
        ranks = current().count
        at_once = batch * ranks * rows.tokens / len(rows.pairs)
        return {"gradient_accumulation_steps": max(1, round(self.tokens_per_step / at_once))}

    def _patches(self, model: PreTrainedModel) -> str | list[str]:
        """Patches of head and loss must stay away: the loss here is TRL's own."""
        from llmkit.patch import automatic_patches

        return automatic_patches(model, own_loss=False) if self.patches == "auto" else self.patches
