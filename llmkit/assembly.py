"""Builds the stages of a recipe one above the other, and checks that each can follow the last."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmkit.build import Reference, load
from llmkit.reading import Reading
from llmkit.references import facts_of_folder, fill, resolve
from llmkit.stage import Facts, Stage
from llmkit.stages import STAGES


@dataclass
class Assembly:
    """Builds the stages of a recipe one above the other."""

    reading: Reading
    top: dict[str, Any]
    kinds: dict[str, str]
    facts: dict[str, Facts] = field(default_factory=dict)
    references: dict[str, dict[str, str | Path]] = field(default_factory=dict)

    def build(self) -> tuple[dict[str, Stage], dict[str, dict[str, str | Path]]]:
        classes: dict[str, type[Stage]] = {
            name: load(STAGES[kind]) for name, kind in self.kinds.items()
        }
        stages: dict[str, Stage] = {}
        names = list(self.top["stages"])
        for number, name in enumerate(names):
            if name not in classes:
                continue
            body = {key: value for key, value in self.top["stages"][name].items() if key != "stage"}
            builder = self.reading.builder
            builder.references.clear()
            stage = builder.build(classes[name], body, (name,))
            earlier = {n: c for n, c in classes.items() if n in names[:number]}
            stage = self.connect(name, stage, earlier, set(names[number + 1 :]))
            if stage is not None:
                stages[name] = stage
        return stages, self.references

    def connect(
        self, name: str, stage: Stage | None, earlier: dict[str, type[Stage]], later: set[str]
    ) -> Stage | None:
        """Resolve the references of a stage, and ask it whether it can follow what it refers to."""
        builder = self.reading.builder
        resolved: dict[str, str | Path] = {}
        complete = True
        for reference in builder.references:
            target, problem = resolve(reference, name, earlier, later)
            if problem is not None:
                builder.problems.append(problem)
                complete = False
            elif target is not None:
                stage = self.take(name, stage, reference, target, resolved)
        self.references[name] = resolved
        if stage is None or not complete:
            return stage
        upstream = {text: self.known(target) for text, target in resolved.items()}
        for problem in stage.problems(upstream):
            builder.fault((name, *problem.path), problem.what, problem.remedy)
        self.facts[name] = stage.facts(upstream)
        return stage

    def take(
        self,
        name: str,
        stage: Stage | None,
        reference: Reference,
        target: str | Path,
        resolved: dict[str, str | Path],
    ) -> Stage | None:
        """Note where a reference leads; write it into the stage where it was left out."""
        text = reference.value if reference.value is not None else str(target)
        resolved[text] = target
        if reference.value is None and stage is not None and len(reference.path) == 2:
            return fill(stage, reference, text)
        return stage

    def known(self, target: str | Path) -> Facts:
        if isinstance(target, Path):
            return facts_of_folder(target)
        return self.facts.get(target, Facts())
