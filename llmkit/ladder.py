"""Climbs the ladder: runs the stages of a recipe in order, skips what is still good, resumes.

- `.<stage>.partial` begun with the key as it is now: goes on in it, with `--force` or without, for
  such a stage was begun anew and not finished;
- key unchanged and the folder as its stage left it: skipped, unless `--force` asks for it again;
- anything else: made anew, with the reason in one line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit import provenance
from llmkit.errors import GateError, InputError, LlmkitError, UserError
from llmkit.making import Maker
from llmkit.ranks import joined
from llmkit.recipe import Recipe
from llmkit.results import RUNS, Run, model_of
from llmkit.run_dir import StageFolder, digest_of, locked
from llmkit.run_record import check_folder, check_price, write_run_record
from llmkit.span import selected, spoken
from llmkit.stage_key import key_of, local_inputs, parents_of, parts_of, reasons, settings

__all__ = ["Ladder", "Run", "model_of", "run"]


def run(
    recipe: str | Path | Recipe,
    overrides: Sequence[str] | Mapping[str, Any] | None = None,
    profile: str | None = None,
    only: str | None = None,
    from_: str | None = None,
    to: str | None = None,
    force: bool = False,
    output_dir: str | Path | None = None,
    price: float | None = None,
) -> Run:
    """Run a recipe, or the span of it that `only`, or `from_` and `to`, select.

    Args:
        recipe: name of a shipped recipe, path of a YAML file, or a loaded `Recipe`.
        overrides: `{"sft.args.learning_rate": 1e-4}` or `["sft.args.learning_rate=1e-4"]`.
        profile: name of one of the recipe's `profiles:`; its run is `<recipe>-<profile>`.
        force: run the selected stages even where nothing has changed. One that was begun with the
            settings as they are now, and stopped, goes on all the same.
        output_dir: holds the runs; `runs` under the current folder by default.
        price: dollars for an hour of one accelerator; then each stage tells what it cost.

    Raises:
        UserError: of what the user can put right, before anything is written where possible.
        Stopped: a signal asked for a stop; the same call goes on where it stopped.
    """
    check_price(price)
    loaded = as_loaded(recipe, overrides, profile)
    span = selected(loaded, only, from_, to)
    command = spoken(recipe, overrides, profile, output_dir)
    with joined(os.environ) as ranks:
        maker = Maker(loaded, Path(output_dir or RUNS) / loaded.run_name, price, ranks)
        if not ranks.first:
            maker.follow()
            return Run.open(maker.folder)
        with maker.leading():
            Ladder(maker, command, force).run(span)
            done = told(Run.open(maker.folder))
    return done


def told(done: Run) -> Run:
    """Write the report; print the table, and what to look at and type next."""
    ways, commands = [f"report: {done.report()}"], done.commands()
    if "chat" in commands:
        ways.append(f"chat with it: {commands['chat']}")
    print(f"\n{done.table()}\n\n" + "\n".join(ways), flush=True)
    return done


def as_loaded(
    recipe: str | Path | Recipe,
    overrides: Sequence[str] | Mapping[str, Any] | None,
    profile: str | None,
) -> Recipe:
    if not isinstance(recipe, Recipe):
        return Recipe.load(recipe, overrides or (), profile)
    if overrides or profile:
        where = f"recipe {recipe.name}"
        raise UserError(where, "is loaded already", "give overrides to Recipe.load")
    return recipe


def check_inputs(recipe: Recipe, span: Sequence[str]) -> None:
    """Every local file that the span reads is there: told now, not when its stage's turn comes."""
    for name in span:
        for path in local_inputs(recipe, name):
            if not path.exists():
                raise InputError(f"{name}: {path}", "no such file or folder", "check the path")


@dataclass
class Ladder:
    """One climb, by the first process: what makes the stages, and how the user called it."""

    maker: Maker
    command: str = "RECIPE"
    force: bool = False

    def __post_init__(self) -> None:
        self.recipe, self.folder = self.maker.recipe, self.maker.folder

    def run(self, span: Sequence[str]) -> None:
        """Check, recover and climb, with the folder held for this process."""
        check_inputs(self.recipe, span)
        with locked(self.folder):
            check_folder(self.folder, self.recipe)
            self.recover()
            self.check_below(span)
            self.climb(span)

    def recover(self) -> None:
        """Finish what a kill cut short, and take over the digests of inputs counted before."""
        for name in self.recipe.stages:
            stage = StageFolder(self.folder, name)
            stage.recover()
            if not self.force:
                record = stage.record(self.command)
                self.maker.digests.known.update(record["input_files"] if record else {})

    def check_below(self, span: Sequence[str]) -> None:
        """What the span reads from stages outside it must be finished, whole and as set now."""
        for name in span:
            for parent in parents_of(self.recipe, name):
                if parent not in span:
                    self._check_finished(parent, needed_by=name)

    def _check_finished(self, name: str, needed_by: str) -> None:
        stage = StageFolder(self.folder, name)
        record = stage.record(self.command)
        first = next(n for n in self._above(name) if n == name or not self._is_finished(n))
        remedy = f"run it first: llmkit run {self.command} --from {first} --to {needed_by}"
        if record is None:
            raise UserError(needed_by, f"needs {name}, which is not finished", remedy)
        self._check_good(stage, record)
        now = settings(self.recipe, name)
        then = {part: record["parts"].get(part) for part in now}
        if then != now:
            what = f"needs {name}, which was finished with other settings: {reasons(then, now)}"
            raise UserError(needed_by, what, remedy)

    def _above(self, name: str) -> list[str]:
        """The stages that `name` is made from, directly or not, and `name`, in order."""
        above = {name}
        for stage in reversed(self.recipe.stages):
            if stage in above:
                above.update(parents_of(self.recipe, stage))
        return [stage for stage in self.recipe.stages if stage in above]

    def _is_finished(self, name: str) -> bool:
        return StageFolder(self.folder, name).record(self.command) is not None

    def climb(self, span: Sequence[str]) -> None:
        """Run what must run of the span, in order."""
        due = self.due(span)
        for name in due:
            self._check_count(StageFolder(self.folder, name))
            try:
                self.recipe.stages[name].prepare(name)
            except (ValueError, ImportError) as error:  # a Hugging Face config refuses itself
                raise UserError(name, str(error), "change it in the recipe") from error
        if due:
            self.maker.revision = provenance.git_revision(self.recipe.file.parent)
        write_run_record(self.folder, self.recipe, self.command)
        for position, name in enumerate(span, start=1):
            self._step(name, f"[{position}/{len(span)}] {name}")

    def _check_count(self, stage: StageFolder) -> None:
        """Told before the first stage, of one that was begun with the settings as they are now."""
        begun = stage.unfinished()
        now = settings(self.recipe, stage.name)
        if begun is not None and {part: begun["parts"].get(part) for part in now} == now:
            self.maker.check_count(stage)

    def due(self, span: Sequence[str]) -> list[str]:
        """The stages of the span that will run, or may because one that they read will."""
        due: list[str] = []
        for name in span:
            below = parents_of(self.recipe, name)
            if self.force or any(parent in due for parent in below):
                due.append(name)
                continue
            stage = StageFolder(self.folder, name)
            record = stage.record(self.command)
            if record is None or not self._stands(stage, record, key_of(self._parts(name))):
                due.append(name)
        return due

    def _stands(self, stage: StageFolder, record: Mapping[str, Any], key: str) -> bool:
        """Whether a finished stage is what is asked for, with nothing begun in its place."""
        if record["key"] != key or stage.begun_as(key):
            return False
        self._check_good(stage, record)
        return True

    def _check_good(self, stage: StageFolder, record: Mapping[str, Any]) -> None:
        """A finished stage is as it was left, and no gate that must stop let it through.

        Raises:
            UserError: a file was changed by hand.
            GateError: it was finished under `gates: warn`, and the recipe no longer says so.
        """
        stage.verify(record, self.command)
        failed = [gate for gate in record.get("gates", ()) if gate["passed"] is False]
        if failed and self.recipe.stages[stage.name].gates == "stop":
            gate = failed[0]
            remedy = f"{stage.name} was finished under `gates: warn`: say so again, or change it"
            raise GateError(gate["gate"], gate["measured"], gate["bound"], remedy)

    def _parts(self, name: str) -> dict[str, Any]:
        parents = {}
        for parent in parents_of(self.recipe, name):
            record = StageFolder(self.folder, parent).record(self.command)
            if record is None:
                raise LlmkitError(f"{name}: its parent {parent} is not finished")
            parents[parent] = digest_of(record["artefacts"])
        return parts_of(self.recipe, name, parents, self.maker.digests)

    def _step(self, name: str, header: str) -> None:
        """Skip, resume or make one stage, and say which and why."""
        stage, parts = StageFolder(self.folder, name), self._parts(name)
        key, record = key_of(parts), stage.record(self.command) if not self.force else None
        if record is not None and self._stands(stage, record, key):
            print(f"{header}: skipped: nothing changed", flush=True)
            return
        why = ""
        if record is not None and record["key"] != key:
            why = reasons(record["parts"], parts)
        why = "made again, as --force asks" if self.force and stage.path.exists() else why
        resumed = stage.begun_as(key)
        if resumed:
            why = "goes on where it stopped" + (f" ({why})" if why else "")
        elif stage.partial.exists():
            begun = stage.unfinished()
            told = reasons(begun["parts"], parts) if begun is not None else ""
            print(f"{name}: what was unfinished is thrown away" + (f": {told}" * bool(told)))
        print(f"{header}: {why}" if why else header, flush=True)
        self.maker.make(name, key, parts, resumed)
