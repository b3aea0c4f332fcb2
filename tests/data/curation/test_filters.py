"""What the filters share, and the table of steps and presets."""

import dataclasses
import pickle
import subprocess
import sys

import pytest

from llmkit.build import Builder, load
from llmkit.data.curation.filters import Step, duplicates
from llmkit.data.curation.steps import PRESETS, STEPS
from llmkit.schema import Named


def test_duplicates_count_every_copy_after_the_first():
    assert duplicates(["a", "bc", "bc", "d", "bc"]) == (2, 4)
    assert duplicates(["a", "b"]) == (0, 0)


def test_every_step_of_the_table_carries_its_own_name_and_settings_only(tmp_path):
    sets = tmp_path / "set.txt"
    sets.write_text("one")
    for name, target in STEPS.items():
        keys = {"sets": (str(sets),)} if name == "decontaminate" else {}
        step = load(target)(**keys)
        assert isinstance(step, Step)
        assert step.name == name
        assert dataclasses.is_dataclass(step) and type(step).__dataclass_params__.frozen
        assert pickle.loads(pickle.dumps(step)) == step


FINEWEB = (
    "url extract language gopher_repetition gopher_quality c4_quality fineweb_quality minhash pii"
)


def build(value: object) -> tuple[list[str], Builder]:
    builder = Builder()
    mark = Named("llmkit.data.curation.steps:STEPS", "llmkit.data.curation.steps:PRESETS")
    steps = builder.listed(mark, value, ("curate", "steps"))
    return [step.name if step else "" for step in steps], builder


def test_the_preset_is_finewebs_order():
    names = [next(iter(item)) if isinstance(item, dict) else item for item in PRESETS["fineweb"]]
    assert " ".join(names) == FINEWEB


@pytest.mark.skipif("minhash" not in STEPS, reason="the preset needs the step minhash")
def test_a_preset_stands_for_its_steps():
    for value in ("fineweb", ["fineweb"]):
        names, builder = build(value)
        assert builder.problems == [] and " ".join(names) == FINEWEB
    names, _ = build([{"split": {}}, "fineweb", "exact_dedup"])
    assert " ".join(names) == f"split {FINEWEB} exact_dedup"


def test_a_word_that_is_no_preset_is_told():
    _, builder = build("finweb")
    assert "must be a list" in str(builder.problems[0])
    _, builder = build(["finweb"])
    assert "no 'finweb' here" in str(builder.problems[0])


def test_a_recipe_check_of_curation_imports_nothing_heavy():
    heavy = (
        "{'numpy', 'torch', 'transformers', 'datasets', 'pyarrow', 'tokenizers', 'spacy',"
        " 'trafilatura'}"
    )
    code = (
        "import sys, llmkit.stages.curate, llmkit.data.sources.table, llmkit.data.curation.steps\n"
        "from llmkit.build import load\n"
        "[load(step) for step in llmkit.data.curation.steps.STEPS.values()]\n"
        f"print(*({heavy} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""
