"""A recipe: YAML in, checked stages out, with every error at once.

The language is described in docs/recipes.md. Checking reads names and types only; it imports none
of torch, transformers, trl, peft and datasets, so that a recipe for a GPU can be checked anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.assembly import Assembly
from llmkit.build import load
from llmkit.errors import InputError, RecipeError
from llmkit.reading import Overrides, Reading
from llmkit.stage import Stage
from llmkit.wording import nearest
from llmkit.yaml12 import Document, parse

WORLD = "llmkit.data.tinyworld.world:World"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe that was checked.

    Attributes:
        stages: name -> stage, in order, with every reference filled in.
        kinds: stage name -> its word in `STAGES`.
        references: stage name -> {reference as written: earlier stage's name, folder or Hub id}.
        resolved: the recipe as plain values, after profile, overrides and vars.
        profiles: the names of its profiles.
        profile: the one that it is under.
    """

    name: str
    file: Path
    seed: int
    world: dict[str, Any]
    stages: dict[str, Stage]
    kinds: dict[str, str]
    references: dict[str, dict[str, str | Path]]
    resolved: dict[str, Any]
    profiles: tuple[str, ...] = ()
    profile: str | None = None

    @property
    def run_name(self) -> str:
        """The name of its run's folder. A profile's is its own: to try a recipe under `smoke`
        must never cost the stages of a run of full size."""
        return f"{self.name}-{self.profile}" if self.profile else self.name

    @classmethod
    def load(
        cls, name_or_path: str | Path, overrides: Overrides = (), profile: str | None = None
    ) -> Recipe:
        """Read and check a recipe, given by its path or by the name of a shipped one.

        Raises:
            InputError: there is no such file.
            RecipeError: the recipe has problems; all of them are told.
        """
        file = find(name_or_path)
        return cls._read(file, document_of(file), overrides, profile)

    @classmethod
    def load_each(cls, name_or_path: str | Path, overrides: Overrides = ()) -> list[Recipe]:
        """The recipe as `load` gives it, and then under each of its profiles. Raises as `load`.

        What is wrong under a profile alone says which one it is.
        """
        file = find(name_or_path)
        document = document_of(file)
        recipes, problems = [cls._read(file, document, overrides, None)], []
        for profile in recipes[0].profiles:
            try:
                recipes.append(cls._read(file, document, overrides, profile))
            except RecipeError as error:
                problems += [f"{problem} (under profile {profile})" for problem in error.problems]
        if problems:
            raise RecipeError(problems)
        return recipes

    @classmethod
    def _read(
        cls, file: Path, document: Document, overrides: Overrides, profile: str | None
    ) -> Recipe:
        reading = Reading(file)
        top = reading.mapping(document)
        reading.check_top(top)
        reading.change(top, overrides, profile)
        top = reading.expand(top)
        reading.check_values(top)
        recipe = cls._assemble(reading, top, profile)
        reading.stop()
        return recipe

    @classmethod
    def _assemble(cls, reading: Reading, top: dict[str, Any], profile: str | None) -> Recipe:
        """Build world and stages, and check how they stand to one another."""
        world = top.get("world", {})
        reading.builder.build(load(WORLD), world, ("world",))
        kinds = {stage: kind for stage in top["stages"] if (kind := reading.kind(stage, top))}
        stages, references = Assembly(reading, top, kinds).build()
        return cls(
            name=top["name"],
            file=reading.file,
            seed=top["seed"],
            world=world,
            stages=stages,
            kinds=kinds,
            references=references,
            resolved={key: value for key, value in top.items() if key != "profiles"},
            profiles=tuple(top.get("profiles", {})),
            profile=profile,
        )


def document_of(file: Path) -> Document:
    try:
        return parse(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(str(file), "is not UTF-8 text", "save it as UTF-8") from error


def shipped() -> Path:
    """The folder of the shipped recipes: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def shipped_names() -> list[str]:
    """The names of the shipped recipes: their paths under `recipes/` without `.yaml`."""
    files = sorted(shipped().rglob("*.yaml"))
    return [file.relative_to(shipped()).with_suffix("").as_posix() for file in files]


def find(name_or_path: str | Path) -> Path:
    """The file of a recipe."""
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    inside = shipped() / f"{name_or_path}.yaml"
    if inside.is_file():
        return inside
    if path.is_dir():
        raise InputError(str(path), "is a folder, not a recipe", "give the path of a .yaml file")
    names = shipped_names()
    remedy = nearest(str(name_or_path), names) or f"shipped recipes: {', '.join(names)}"
    raise InputError(str(name_or_path), "no such recipe", remedy)
