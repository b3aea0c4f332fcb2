"""`evaluate`: models of the run by tasks, every figure with its 95 % interval.

A task that asks gives a score for each completion: Wilson's interval where all scores are 0 or 1,
Student's where they are not. A task that shows texts gives bits per byte and nats per token.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llmkit.errors import InputError, Problem
from llmkit.generation import generation_problems, without_room
from llmkit.schema import Named, Passes, Refers
from llmkit.stage import Context, Facts, Stage
from llmkit.tasks.task import Completion, Example, LikelihoodTask, Measured, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

log = logging.getLogger("llmkit")

Figures = dict[str, dict[str, float]]  # "task/metric" -> {value, low, high, n}
Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Evaluate(Stage):
    """Measure `models` by `tasks`.

    Attributes:
        models: earlier stages, model folders or Hub ids.
        tasks: names of tasks, with their options; a task's `models` picks among the stage's.
        shards: whose validation split the task bits_per_byte reads.
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
        for model in self.models if task.models is None else task.models:
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
        for task in self.tasks:
            yield from task.files()

    def hub_data(self) -> Iterator[tuple[str, str | None]]:
        for task in self.tasks:
            yield from task.hub_data()

    def run(self, context: Context) -> dict[str, Any]:
        """Write `metrics.json`, `samples.jsonl` and `logs/scores.jsonl`, one row an example."""
        from llmkit.device import tune_allocator

        tune_allocator()
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

    def _measure(self, context: Context, name: str) -> tuple[Figures, Rows]:
        """The figures of all the tasks of one model, and a row for each example that it answered.

        The model is loaded once, and let go before the next comes.
        """
        from llmkit.model import load_for_inference, load_tokenizer

        source = context.inputs[name]
        tokenizer = load_tokenizer(source, self.revision)
        model = load_for_inference(source, self.revision)
        figures: Figures = {}
        scored: Rows = []
        for task in self.tasks:
            if task.models is not None and name not in task.models:
                continue
            label = f"{context.name}: {name}, {name_of(task)}"
            if isinstance(task, LikelihoodTask):
                shards = Path(context.inputs[self.shards]) if self.shards else None
                found = foreseen(context, task, model, tokenizer, shards, label)
            else:
                rows = self._ask(context, task, model, tokenizer, label)
                found = {key: interval(label, values) for key, values in columns(rows).items()}
                scored += [{"model": name, "task": name_of(task), **row} for row in rows]
            figures |= {f"{name_of(task)}/{metric}": value for metric, value in found.items()}
        return figures, scored

    def _ask(
        self,
        context: Context,
        task: Task,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        label: str,
    ) -> Rows:
        """Each example with what the model wrote and how it scored."""
        from llmkit.decode import complete
        from llmkit.model import context_length

        generation = {"max_new_tokens": task.max_new_tokens} | self.generation
        room = context_length(model) - generation["max_new_tokens"]
        examples = list(task.examples(context.world, context.seed))
        asked = [(e, ids) for e, ids in zip(examples, prompts(tokenizer, examples), strict=True)]
        fitting = [(example, ids) for example, ids in asked if len(ids) <= room]
        if len(fitting) < len(asked):
            left = len(asked) - len(fitting)
            log.warning("%s: %d of %d prompts do not fit the context", label, left, len(asked))
        if not fitting:
            remedy = "choose another task, or fewer max_new_tokens"
            raise InputError(label, "no example whose prompt fits the model's context", remedy)
        ids = [ids for _, ids in fitting]
        written = complete(model, tokenizer, ids, generation, self.batch_size, context.seed, label)
        rows = []
        for (example, _), (tokens, ended) in zip(fitting, written, strict=True):
            text = tokenizer.decode(tokens, skip_special_tokens=True)
            scores = task.score(example, Completion(text, ended))
            rows.append(
                {"prompt": example.prompt, "answer": example.answer, "completion": text}
                | {"ended": ended, "scores": scores}
            )
        return rows


def name_of(task: Measured) -> str:
    """The recipe's word for the task."""
    from llmkit.tasks import TASKS

    cls = type(task)
    return next(name for name, at in TASKS.items() if at == f"{cls.__module__}:{cls.__name__}")


def prompts(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example]) -> list[list[int]]:
    """Ids of the examples' prompts: chats by the template, plain texts as a document begins."""
    from llmkit.decode import prompt_ids
    from llmkit.model import encode_conversations

    chats = [e.prompt for e in examples if not isinstance(e.prompt, str)]
    encoded = iter(encode_conversations(tokenizer, chats, True) if chats else [])
    return [
        prompt_ids(tokenizer, e.prompt) if isinstance(e.prompt, str) else next(encoded)[0]
        for e in examples
    ]


def first_of_each(rows: Rows, count: int) -> Rows:
    """The first `count` rows of every model and task."""
    seen: Counter[tuple[str, str]] = Counter()
    kept = []
    for row in rows:
        seen[row["model"], row["task"]] += 1
        if seen[row["model"], row["task"]] <= count:
            kept.append(row)
    return kept


def columns(rows: Rows) -> dict[str, list[float]]:
    """Metric -> its score in every row; all rows have the same metrics."""
    return {metric: [row["scores"][metric] for row in rows] for metric in rows[0]["scores"]}


def interval(label: str, scores: Sequence[float]) -> dict[str, float]:
    """Wilson's interval for a share of yes, Student's for other scores."""
    from llmkit.metrics.mean import Mean
    from llmkit.metrics.proportion import Proportion

    if set(scores) <= {0.0, 1.0}:
        return Proportion().compute(scores=scores)
    if len(scores) < 2:
        raise InputError(label, "one score has no interval", "raise the task's limit")
    return Mean().compute(scores=scores)


def foreseen(
    context: Context,
    task: LikelihoodTask,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    shards: Path | None,
    label: str,
) -> Figures:
    """`bits_per_byte` and `nats_per_token` of the task's texts."""
    from llmkit.decode import nats
    from llmkit.metrics.likelihood import BitsPerByte, NatsPerToken

    passages = [
        passage
        for passage in task.passages(tokenizer, context.world, context.seed, shards)
        if passage.num_bytes and any(passage.scored[1:])
    ]
    if len(passages) < 2:
        raise InputError(label, f"{len(passages)} texts have no interval", "give it two or more")
    found = nats(model, [(p.ids, p.scored) for p in passages], label)
    num_tokens = [sum(p.scored[1:]) for p in passages]
    num_bytes = [p.num_bytes for p in passages]
    return {
        "bits_per_byte": BitsPerByte().compute(nats=found, num_bytes=num_bytes),
        "nats_per_token": NatsPerToken().compute(nats=found, num_tokens=num_tokens),
    }


def write_json(file: Path, value: object) -> None:
    import json

    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    file.write_text(text + "\n", encoding="utf-8")


def write_rows(file: Path, rows: Rows) -> None:
    import json

    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    file.write_text("".join(lines), encoding="utf-8")
