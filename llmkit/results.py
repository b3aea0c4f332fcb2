"""What a run holds, to look at and to load: `Run`, its stages, and its closing table."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.errors import InputError, UserError
from llmkit.references import HUB_ID
from llmkit.run_dir import RECORD, RUN_RECORD, StageFolder, read_json
from llmkit.tables import aligned, in_order, metrics_table, pair_cells, seconds, single
from llmkit.wording import nearest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RUNS = Path("runs")
REWRITE = "run the recipe again to write it anew"
CHATS = ("sft", "dpo", "ppo", "grpo", "rloo")  # kinds of stages whose models hold conversations


@dataclass(frozen=True)
class FinishedStage:
    """A finished stage: its folder, and `stage.json` as a mapping."""

    name: str
    folder: Path
    stage_json: dict[str, Any] = field(repr=False)

    @property
    def kind(self) -> str:
        return str(self.stage_json["kind"])

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures that the stage returned."""
        return dict(self.stage_json["metrics"])

    @property
    def model_folder(self) -> Path:
        """The folder, where there is a model in it. Raises InputError."""
        self._needs("config.json", "model")
        return self.folder

    def model(self, **arguments: Any) -> PreTrainedModel:
        """The stage's model, by transformers alone; `arguments` go to its `from_pretrained`."""
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

        self._needs("config.json", "model")
        auto = AutoModelForSequenceClassification if self.kind == "reward" else AutoModelForCausalLM
        return auto.from_pretrained(self.folder, **arguments)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that lies in the stage's folder."""
        from transformers import AutoTokenizer

        self._needs("tokenizer.json", "tokenizer")
        return AutoTokenizer.from_pretrained(self.folder)

    def _needs(self, file: str, what: str) -> None:
        if not (self.folder / file).is_file():
            raise InputError(str(self.folder), f"holds no {what}: the stage is a `{self.kind}`")


@dataclass(frozen=True)
class Run:
    """A run folder: `run["sft"].model()`, `run["sft"].metrics`, `run.report()`.

    `stages` holds the finished stages in the recipe's order.
    """

    folder: Path
    stages: Mapping[str, FinishedStage] = field(repr=False)
    command: str = "RECIPE"  # behind `llmkit run`, to make the run again

    @classmethod
    def open(cls, run: str | Path, runs: str | Path | None = None) -> Run:
        """The run in the folder `run`, or of the recipe `run` under `runs`.

        Raises InputError where there is none, or a broken one.
        """
        places = [Path(run), Path(runs or RUNS) / run]
        for folder in places:
            if (folder / RUN_RECORD).is_file():
                record = read_json(folder / RUN_RECORD, REWRITE)
                command = str(record.get("command", record["recipe"]))
                return cls(folder, finished_stages(folder, record["stages"], command), command)
        raise no_run(str(run), runs)

    def __getitem__(self, name: str) -> FinishedStage:
        if name not in self.stages:
            held = ", ".join(self.stages) or "none"
            what = f"there is no finished stage {name} (finished: {held})"
            raise UserError(str(self.folder), what, nearest(name, self.stages))
        return self.stages[name]

    def __contains__(self, name: object) -> bool:
        return name in self.stages

    def __iter__(self) -> Iterator[str]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def chat_stage(self) -> FinishedStage | None:
        """The last stage whose model holds conversations."""
        chats = [stage for stage in self.stages.values() if stage.kind in CHATS]
        return chats[-1] if chats else None

    @property
    def name(self) -> str:
        """What `llmkit chat` and `llmkit report` call this run: its name, or its folder."""
        here = self.folder.is_relative_to(RUNS)
        return str(self.folder.relative_to(RUNS) if here else self.folder)

    def commands(self) -> dict[str, str]:
        """What to type: `run`, `report`, and `chat` where a model has learnt conversations."""
        name = shlex.quote(self.name)
        commands = {"run": f"llmkit run {self.command}", "report": f"llmkit report {name}"}
        if self.chat_stage() is not None:
            commands["chat"] = f"llmkit chat {name}"
        return commands

    def report(self) -> Path:
        """Write `report.html` anew and return its path."""
        from llmkit.report.page import write_report

        return write_report(self.folder, self.commands())

    def table(self) -> str:
        """Time and figures of each stage; models by question types; held-out pairs."""
        parts = [stage_table(self.stages.values())]
        for stage in self.stages.values():
            if stage.kind == "evaluate":
                models = metrics_table(in_order(evaluated(stage.folder), self.stages))
                note = f"value [95 % interval]; all figures: {stage.folder / 'metrics.json'}"
                parts.append(f"{stage.name}\n\n{models}\n\n{note}")
        pairs = {stage.name: pair_cells(stage.metrics) for stage in self.stages.values()}
        judges = {name: cells for name, cells in pairs.items() if cells}
        if judges:
            parts.append(f"held-out preference pairs\n\n{metrics_table(judges)}")
        return "\n\n".join(parts)


def no_run(name: str, runs: str | Path | None) -> InputError:
    """That there is no run of this name; with the nearest one there is, such as `NAME-smoke`."""
    above = Path(runs or RUNS)
    there = [record.parent.name for record in above.glob(f"*/{RUN_RECORD}")]
    what = f"there is no run in {Path(name)} and {above / name}"
    return InputError(name, what, nearest(name, there) or f"make one: llmkit run {name}")


def finished_stages(folder: Path, names: Iterable[str], command: str) -> dict[str, FinishedStage]:
    """Those of `names` that are finished. Raises InputError where one is broken."""
    found = {name: StageFolder(folder, name).record(command) for name in names}
    return {
        name: FinishedStage(name, folder / name, record)
        for name, record in found.items()
        if record is not None
    }


def model_of(text: str, runs: str | Path | None = None) -> Path | str:
    """The model that `RUN[:STAGE]`, a model folder or a Hub id means: a folder, or the id.

    A run alone means its last stage that holds conversations. Raises UserError.
    """
    if (Path(text) / "config.json").is_file():
        return Path(text)
    name, _, stage = text.partition(":")
    places = [Path(name), Path(runs or RUNS) / name]
    if any((place / RUN_RECORD).is_file() for place in places):
        run = Run.open(name, runs)
        if stage:
            return run[stage].model_folder
        last = run.chat_stage()
        if last is None:
            what = "no stage of this run has learnt conversations"
            raise UserError(name, what, f"name a stage: {name}:STAGE ({', '.join(run.stages)})")
        return last.folder
    if HUB_ID.fullmatch(text):
        return text
    raise no_run(name, runs)


def stage_table(stages: Iterable[FinishedStage]) -> str:
    """A line a stage: its name, the time it took, the first of its figures."""
    rows, total = [["stage", "time", "figures"]], 0.0
    for stage in stages:
        took = float(stage.stage_json["seconds"])
        total += took
        resumed = "+" if stage.stage_json.get("resumed") else ""
        main = ", ".join(f"{name} {value}" for name, value in single(stage.metrics).items())
        rows.append([stage.name, seconds(took) + resumed, main])
    if len(rows) > 2:
        rows.append(["all", seconds(total), ""])
    note = "\n+ resumed: the time since then alone" if any("+" in row[1] for row in rows) else ""
    return aligned(rows, right={1}) + note


def evaluated(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """`metrics.json` of an evaluate stage: {model: {"task/metric": {value, low, high, n}}}."""
    return read_json(folder / "metrics.json", f"see {folder / RECORD} for the stage that made it")
