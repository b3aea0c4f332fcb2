"""`evaluate`: models of the run by tasks, every figure with its 95 % interval.

A task that asks gives scores of the model's completions, one that shows texts how well the model
foresees them, one that shows endings how often it foresees the right one best. How much of each
task stands in the training text is told beside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llmkit.errors import Problem
from llmkit.generation import generation_problems, without_room
from llmkit.run_dir import write_json
from llmkit.schema import Keyed, Named, Passes, Refers
from llmkit.stage import Context, Facts, Stage
from llmkit.tasks.task import ChoiceTask, LikelihoodTask, Measured, Task, name_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from llmkit.data.overlap import Found

Figures = dict[str, dict[str, float]]  # "task/metric" -> {value, low, high, n}
Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Evaluate(Stage):
    """Measure `models` by `tasks`.

    Attributes:
        models: earlier stages, model folders or Hub ids.
        tasks: names of tasks, with their options; a task's `models` picks among the stage's.
        shards: whose validation split the task bits_per_byte reads, and in whose training split
            the tasks' examples are looked for.
        conversations: that the models were tuned on, for the tasks' examples to be looked for.
        overlap: whether to look for them.
        batch_size: prompts generated at once.
        generation: GenerationConfig. Greedy where it does not say otherwise; each task knows how
            many new tokens its answers need, unless `max_new_tokens` is given here.
        samples: completions for each model and task that samples.jsonl keeps.
    """

    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "evaluate")

    models: Annotated[list[str], Refers("model")]
    tasks: Annotated[list[Any], Named("llmkit.tasks:TASKS")]
    revision: str | None = None
    shards: Annotated[str | None, Refers("shards", optional=True)] = None
    conversations: Annotated[list[Any], Keyed("llmkit.data.chat.conversations:CONVERSATIONS")] = (
        field(default_factory=list)
    )
    overlap: bool = True
    batch_size: int = 256
    generation: Annotated[dict[str, Any], Passes("transformers.GenerationConfig")] = field(
        default_factory=dict
    )
    samples: int = 8

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        if not self.models:
            yield Problem(("models",), "is empty", "name at least one model")
        if not self.tasks:
            yield Problem(("tasks",), "is empty", "name at least one task")
        for index, task in enumerate(self.tasks):
            for name in sorted(set(task.models or ()) - set(self.models)):
                remedy = f"there is {', '.join(self.models)}"
                yield Problem(("tasks", index), f"{name!r} is none of the stage's models", remedy)
            if task.models is not None and not task.models:
                yield Problem(("tasks", index), "no model takes it", "leave its `models` out")
            if task.max_overlap is not None and not self.overlap:
                what = "max_overlap is set, and `overlap: false` says not to look"
                yield Problem(("tasks", index), what, "keep one of them")
        names = [name_of(task) for task in self.tasks]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Problem(("tasks", index), f"{name} stands there twice", "keep one")
        if self.batch_size < 1:
            yield Problem(("batch_size",), f"{self.batch_size} is not positive")
        if self.samples < 0:
            yield Problem(("samples",), f"{self.samples} is negative", "0 keeps none")
        yield from generation_problems(self.generation)
        for index, task in enumerate(self.tasks):
            yield from self._room_problems(index, task, upstream)
            if isinstance(task, LikelihoodTask) and task.reads_shards:
                yield from self._shards_problems(index, task, upstream)

    def _room_problems(
        self, index: int, task: Measured, upstream: Mapping[str, Facts]
    ) -> Iterator[Problem]:
        """Where the context of a model that takes the task is known to hold no prompt of it."""
        if not isinstance(task, Task):
            return
        given = "max_new_tokens" in self.generation
        tokens = (self.generation.get("max_new_tokens") if given else task.max_new_tokens) or 0
        path = ("generation", "max_new_tokens") if given else ("tasks", index)
        for model in self._takers(task):
            what = without_room(model, tokens, upstream.get(model, Facts()).context_length)
            if what:
                yield Problem(path, what, "set generation.max_new_tokens lower")

    def _shards_problems(
        self, index: int, task: Measured, upstream: Mapping[str, Facts]
    ) -> Iterator[Problem]:
        if self.shards is None:
            what, remedy = "there are no shards to read", "name the tokenize stage with `shards:`"
            yield Problem(("tasks", index), f"{name_of(task)}: {what}", remedy)
        elif upstream.get(self.shards, Facts()).validation is False:
            what = f"{name_of(task)}: {self.shards} holds out no document"
            yield Problem(("tasks", index), what, "set its validation_fraction above 0")

    def files(self) -> Iterator[Path]:
        for source in (*self.tasks, *self.conversations):
            yield from source.files()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        for source in (*self.tasks, *self.conversations):
            yield from source.hub_data()

    def run(self, context: Context) -> dict[str, Any]:
        """Write `metrics.json`, `samples.jsonl`, `overlap.json` and `logs/scores.jsonl`."""
        from llmkit.device import tune_allocator

        tune_allocator()
        if self.overlap:
            self._look_for_overlap(context)
        metrics: dict[str, Figures] = {}
        rows: Rows = []
        for name in self.models:
            metrics[name], scored = self._measure(context, name)
            rows += scored
            write_rows(context.logs / "scores.jsonl", rows)
        write_json(context.out / "metrics.json", metrics)
        write_rows(context.out / "samples.jsonl", first_of_each(rows, self.samples))
        return {
            f"{model}/{metric}": figure["value"]
            for model, figures in metrics.items()
            for metric, figure in figures.items()
        }

    def _shards(self, context: Context) -> Path | None:
        return Path(context.inputs[self.shards]) if self.shards is not None else None

    def _look_for_overlap(self, context: Context) -> None:
        """The gate `overlap` of each task, before any model is asked."""
        from llmkit.tasks.training_text import TrainingText, maker_of, overlaps, texts_of

        training = TrainingText(
            shards=self._shards(context),
            conversations=self.conversations,
            inputs=context.inputs,
            world=context.world,
            seed=context.seed,
        )
        tokenizers = self._tokenizers(context)
        maker = maker_of(training.shards, tokenizers.values()) if training.shards else None
        if maker is None and not training.conversations:
            what = "a model's tokenizer made its shards" if self.shards else "it has shards"
            why = f"the stage knows no training text: neither {what} nor are there conversations"
            context.gate_left_out("overlap", why, "known text")
            return
        asked = {
            name_of(task): texts_of(task, tokenizers[self._takers(task)[0]], training)
            for task in self.tasks
        }
        found, record = overlaps(asked, training.texts(maker, f"{context.name}: overlap"))
        write_json(context.out / "overlap.json", record)
        for task in self.tasks:
            judge_overlap(context, task, found[name_of(task)])

    def _takers(self, task: Measured) -> list[str]:
        """The models that take the task."""
        return self.models if task.models is None else task.models

    def _tokenizers(self, context: Context) -> dict[str, PreTrainedTokenizerFast]:
        from llmkit.model import load_tokenizer

        return {name: load_tokenizer(context.inputs[name], self.revision) for name in self.models}

    def _measure(self, context: Context, name: str) -> tuple[Figures, Rows]:
        """The figures of all the tasks of one model, and a row for each example that it answered.

        The model is loaded once, and let go before the next comes.
        """
        from llmkit.model import load_for_inference, load_tokenizer
        from llmkit.tasks.asking import ask, intervals
        from llmkit.tasks.choosing import chosen, shares
        from llmkit.tasks.foreseeing import foreseen

        source = context.inputs[name]
        tokenizer = load_tokenizer(source, self.revision)
        model = load_for_inference(source, self.revision)
        figures: Figures = {}
        scored: Rows = []
        for task in (task for task in self.tasks if name in self._takers(task)):
            word = name_of(task)
            label = f"{context.name}: {name}, {word}"
            if isinstance(task, LikelihoodTask):
                shown = task.passages(tokenizer, context.world, context.seed, self._shards(context))
                found = foreseen(shown, model, label)
            elif isinstance(task, ChoiceTask):
                offered = list(task.choices(context.world, context.seed))
                found = shares(chosen(offered, model, tokenizer, label), label)
            else:
                settings = {"max_new_tokens": task.max_new_tokens} | self.generation
                asked = list(task.examples(context.world, context.seed))
                size, seed = self.batch_size, context.seed
                rows = ask(task, asked, model, tokenizer, settings, size, seed, label)
                found = intervals(rows, label)
                scored += [{"model": name, "task": word, **row} for row in rows]
            figures |= {f"{word}/{metric}": value for metric, value in found.items()}
        return figures, scored


def judge_overlap(context: Context, task: Measured, found: Found) -> None:
    """Record the gate `overlap` of one task."""
    bound = "told only: no max_overlap is set"
    if task.max_overlap is not None:
        bound = f"at most {100 * task.max_overlap:.4g} %"
    if not found.judged:
        context.gate_left_out("overlap", f"{name_of(task)}: its examples are too short", bound)
        return
    passed = task.max_overlap is None or found.share <= task.max_overlap
    said = f"{len(found.overlapping):,} of {found.judged:,} examples ({100 * found.share:.1f} %)"
    remedy = "take them out of the training text (overlap.json shows some), or raise max_overlap"
    context.gate("overlap", passed, f"{name_of(task)}: {said}", bound, remedy)


def first_of_each(rows: Rows, count: int) -> Rows:
    """The first `count` rows of every model and task."""
    seen: Counter[tuple[str, str]] = Counter()
    kept = []
    for row in rows:
        seen[row["model"], row["task"]] += 1
        if seen[row["model"], row["task"]] <= count:
            kept.append(row)
    return kept


def write_rows(file: Path, rows: Rows) -> None:
    import json

    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    file.write_text("".join(lines), encoding="utf-8")
