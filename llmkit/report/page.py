"""`report.html`: a run on one self-contained page, with nothing fetched from anywhere.

The page is `page.html`, a Jinja template with autoescaping on (https://jinja.palletsprojects.com):
what stands in documents and completions is text there, never markup. Only the drawings of
`curves.py` and `lineage.py` are taken as markup; they escape what they write.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from llmkit.report.contents import StageContents, read_run
from llmkit.report.lineage import lineage
from llmkit.report.samples import side_by_side
from llmkit.report.sections import machine, recipe_text, result_tables, stage_section, took
from llmkit.tables import seconds

PAGE = "report.html"


def write_report(run_folder: Path, commands: Mapping[str, str] | None = None) -> Path:
    """Write `report.html` into the run's folder and return its path.

    Args:
        commands: what it does -> what to type (`run`, `report`, `chat`); shown on the page.

    Raises:
        InputError: the folder holds no finished stage, or a broken record.
    """
    folder = Path(run_folder)
    run, stages = read_run(folder)
    page = folder / PAGE
    unfinished = folder / f".{PAGE}.new"
    unfinished.write_text(render(folder, run, stages, commands or {}), encoding="utf-8")
    unfinished.replace(page)
    return page


def render(
    folder: Path,
    run: Mapping[str, Any],
    stages: list[StageContents],
    commands: Mapping[str, str],
) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    total = sum(map(took, stages))
    machines = [stage.record["hardware"] for stage in stages if stage.record.get("hardware")]
    return environment.get_template("page.html").render(
        title=str(run.get("recipe", folder.name)),
        stages=[stage_section(stage, total) for stage in stages],
        total=seconds(total),
        hardware=machine(machines[-1] if machines else {}),
        seed=run.get("seed", stages[-1].record.get("seed")),
        tables=result_tables(stages),
        tasks=side_by_side(row for stage in stages for row in stage.samples),
        lineage=lineage(
            {stage.name: stage.record.get("parents") or () for stage in stages},
            {stage.name: seconds(took(stage)) for stage in stages},
        ),
        commands=commands,
        recipe=recipe_text(run.get("resolved") or {}),
    )
