"""How one stage is made: by the first process alone, or by all of them together.

A stage is made in `.<stage>.partial`, which is renamed when it is whole. The first process begins
it, writes its record and gives it its name. A stage that says `together` (a training) runs in every
process, on the same partial folder; while any other runs, the rest wait.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmkit import provenance
from llmkit.errors import LlmkitError, UserError
from llmkit.progress import hidden
from llmkit.ranks import ALONE, Ranks, share, spread_by
from llmkit.recipe import Recipe
from llmkit.run_dir import RECORD, StageFolder
from llmkit.run_record import cost_of
from llmkit.stage import Context, Stage
from llmkit.stage_key import InputDigests, local_inputs, parents_of, plain
from llmkit.tables import after_stage
from llmkit.trouble import signals_stop, told_clearly

SIGHT = 60.0  # seconds that a shared file system may take to show a new file


@dataclass
class Maker:
    """Makes the stages of one run; in every process of it there is one.

    Attributes:
        digests: what has become known of input files.
        revision: the recipe's git revision, for the records.
    """

    recipe: Recipe
    folder: Path
    price: float | None = None
    ranks: Ranks = ALONE
    digests: InputDigests = field(default_factory=InputDigests)
    revision: str | None = None
    called: bool = False  # whether the others are in a stage, and do not listen

    @contextlib.contextmanager
    def leading(self) -> Iterator[None]:
        """In the first process: while the others wait, what befalls it is raised in them too."""
        try:
            yield
        except Exception as error:
            if not self.called:
                told = error if isinstance(error, LlmkitError) else LlmkitError(f"failed: {error}")
                with contextlib.suppress(LlmkitError):  # they have gone, and hear of it no more
                    self.ranks.told(told)
            raise
        self.ranks.told(None)

    def make(self, name: str, key: str, parts: dict[str, Any], resumed: bool) -> None:
        """In the first process: make a stage, from what an earlier try left where `resumed`."""
        stage, component = StageFolder(self.folder, name), self.recipe.stages[name]
        context, started = self._context(name), time.monotonic()
        with signals_stop(name), told_clearly(stage):
            if not resumed:
                stage.begin(key, parts, self.ranks.count)
            metrics = plain(self._run(component, context))
            took = time.monotonic() - started
            record = self._record(name, key, parts, metrics)
            record |= {"seconds": round(took, 3), "resumed": resumed}
            record["cost"] = cost_of(self.price, took, metrics, self.ranks.count)
            record["gates"] = plain(context.gate_results)
            stage.finish(record)
        print(after_stage(metrics, record["gates"], took, stage.path), flush=True)

    def _run(self, component: Stage, context: Context) -> Mapping[str, Any]:
        if not component.together:
            _whole_models()
            return component.run(context)
        self.ranks.told(context.name)
        self.called = True
        with self.ranks.in_step():
            metrics = component.run(context)
        self.called = False
        return metrics

    def check_count(self, stage: StageFolder) -> None:
        """Raise UserError where a training was begun by another number of processes.

        Each has its share of the rows, and its own random numbers in the checkpoint.
        """
        unfinished = stage.unfinished()
        begun = (unfinished or {}).get("processes", 1)
        if unfinished is None or begun == self.ranks.count:
            return
        if not self.recipe.stages[stage.name].together:
            return
        what = f"was begun by {begun} process{'es' * (begun > 1)}, and now there are "
        remedy = f"launch {begun}, or remove this folder to begin the stage anew"
        raise UserError(str(stage.partial), f"{what}{self.ranks.count}", remedy)

    def follow(self) -> None:
        """In the others: run each stage that the first process calls them to, till it is done."""
        with _silent():
            while (name := self.ranks.told(None)) is not None:
                if isinstance(name, LlmkitError):
                    share()
                    raise name
                stage = StageFolder(self.folder, name)
                with signals_stop(name), told_clearly(stage), self.ranks.in_step():
                    self._check_seen(stage)
                    self.recipe.stages[name].run(self._context(name))

    def _check_seen(self, stage: StageFolder) -> None:
        """Raise UserError where the first process's folder does not come into sight.

        Another machine may have another disk, and one that is shared may be some seconds behind.
        """
        until = time.monotonic() + SIGHT
        while not (stage.partial / RECORD).is_file():
            if time.monotonic() > until:
                what = f"is not there for process {self.ranks.rank}, and the first one has begun it"
                remedy = "give the machines one file system, and name it with --output-dir"
                raise UserError(str(stage.partial), what, remedy)
            time.sleep(SIGHT / 100)

    def _context(self, name: str) -> Context:
        return Context(
            name=name,
            out=StageFolder(self.folder, name).partial,
            seed=self.recipe.seed,
            world=self.recipe.world,
            inputs=self._inputs(name),
            gates=self.recipe.stages[name].gates,
            price=self.price,
        )

    def _inputs(self, name: str) -> dict[str, Path | str]:
        """Reference as written -> finished folder, local folder or Hub id."""
        return {
            text: self.folder / target if str(target) in self.recipe.stages else target
            for text, target in self.recipe.references[name].items()
        }

    def _record(
        self, name: str, key: str, parts: dict[str, Any], metrics: Mapping[str, Any]
    ) -> dict[str, Any]:
        read = {str(path) for path in local_inputs(self.recipe, name)}
        known = self.digests.known.items()
        return {
            "stage": name,
            "kind": self.recipe.kinds[name],
            "recipe": self.recipe.name,
            "key": key,
            "parts": parts,
            "parents": parents_of(self.recipe, name),
            "input_files": {
                path: digest
                for path, digest in known
                if path in read or any(str(parent) in read for parent in Path(path).parents)
            },
            "metrics": metrics,
            "tokens": metrics.get("tokens"),
            "seed": self.recipe.seed,
            "versions": parts["versions"],
            "git_revision": self.revision,
            "hardware": provenance.hardware(),
            "processes": self.ranks.count if self.recipe.stages[name].together else 1,
        }


def _whole_models() -> None:
    """After a training by DeepSpeed's third stage, transformers would go on to load models in
    pieces, with the help of processes that wait for something else."""
    if spread_by(os.environ) == "DEEPSPEED":
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        unset_hf_deepspeed_config()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The first process shows and says what they all would."""
    from transformers.utils import logging as of_transformers

    ours, before = logging.getLogger("llmkit"), of_transformers.get_verbosity()
    level = ours.level
    with open(os.devnull, "w", encoding="utf-8") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours.setLevel(logging.ERROR)
        of_transformers.set_verbosity_error()
        try:
            with contextlib.redirect_stdout(nowhere), hidden():
                yield
        finally:
            ours.setLevel(level)
            of_transformers.set_verbosity(before)
