"""The recipe language: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

from llmkit.cli import COMMANDS
from llmkit.errors import InputError, RecipeError
from llmkit.recipe import Recipe, find, shipped, shipped_names

GOOD = """\
name: small
seed: 3
world: {seed: 1, people: 20}
vars: {steps: 5, where: here}
stages:
  curate:
    sources: [{tinyworld: {num_documents: 100}}]
    steps: [gopher_quality, exact_dedup]
  tokenizer: {vocab_size: 512}
  tokenize: {context_length: 64}
  pretrain:
    config: {n_layer: 1, n_head: 2, n_embd: 32}
    args: {max_steps: "${steps}", learning_rate: 1e-3}
  sft:
    model: pretrain
    dataset: [{tinyworld: conversations}]
    args: {max_steps: 5}
  evaluate: {models: [pretrain, sft], tasks: [tinyworld_cloze]}
profiles:
  smoke: {pretrain.args.max_steps: 2, sft.args.max_steps: 1}
"""


def load(
    tmp_path: Path, text: str = GOOD, overrides: object = (), profile: str | None = None
) -> Recipe:
    file = tmp_path / "r.yaml"
    file.write_text(text)
    return Recipe.load(file, overrides, profile)  # type: ignore[arg-type]


def problems(
    tmp_path: Path, text: str = GOOD, overrides: object = (), profile: str | None = None
) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text, overrides, profile)
    assert caught.value.exit_status == 2
    return [p.replace(f"{tmp_path}/", "") for p in caught.value.problems]


def test_a_good_recipe_becomes_stages(tmp_path: Path) -> None:
    recipe = load(tmp_path)
    assert (recipe.name, recipe.seed, list(recipe.stages)) == (
        "small",
        3,
        ["curate", "tokenizer", "tokenize", "pretrain", "sft", "evaluate"],
    )
    assert recipe.stages["pretrain"].args == {"max_steps": 5, "learning_rate": 0.001}  # type: ignore[attr-defined]


def test_references_that_were_left_out_are_filled_in(tmp_path: Path) -> None:
    recipe = load(tmp_path)
    assert recipe.references["tokenize"] == {"curate": "curate", "tokenizer": "tokenizer"}
    assert recipe.stages["pretrain"].shards == "tokenize"  # type: ignore[attr-defined]
    assert recipe.references["evaluate"]["sft"] == "sft"


def test_overrides_profiles_and_variables_in_this_order(tmp_path: Path) -> None:
    steps = lambda *a, **k: load(tmp_path, GOOD, *a, **k).stages["pretrain"].args["max_steps"]  # type: ignore[attr-defined]  # noqa: E731
    assert steps() == 5
    assert steps(["steps=7"]) == steps(["vars.steps=7"]) == 7
    assert steps([], "smoke") == 2
    assert steps(["pretrain.args.max_steps=9"], "smoke") == 9
    assert steps({"pretrain.args.max_steps": 4}) == 4
    assert load(tmp_path, GOOD, ["seed=8"]).seed == load(tmp_path, GOOD, "seed=8").seed == 8
    assert load(tmp_path, GOOD, None).seed == 3


CASES = [
    # (what is replaced, by what, the one message)
    ("max_steps: 5}", "max_stepz: 5}", "r.yaml:17: sft.args.max_stepz: no such key in SFTConfig; did you mean max_steps?"),
    ("n_layer: 1", "n_layr: 1", "r.yaml:12: pretrain.config.n_layr: no such key in GPT2Config; did you mean n_layer?"),
    ("vocab_size: 512", "vocab_sise: 512", "r.yaml:9: tokenizer.vocab_sise: no such key in Tokenizer; did you mean vocab_size?"),
    ("learning_rate: 1e-3", "learning_rate: fast", "r.yaml:13: pretrain.args.learning_rate: must be a number, not the text 'fast'"),
    ("learning_rate: 1e-3", "output_dir: x", "r.yaml:13: pretrain.args.output_dir: set by llmkit; llmkit writes to"),
    ("people: 20", "peeple: 20", "r.yaml:3: world.peeple: no such key in World; did you mean people?"),
    ("num_documents: 100", "num_document: 100", "r.yaml:7: curate.sources[0].tinyworld.num_document: no such key"),
    ("exact_dedup", "exact_dedupe", "r.yaml:8: curate.steps[1]: no 'exact_dedupe' here; did you mean exact_dedup?"),
    ("tinyworld_cloze", "tinyworld_cloz", "r.yaml:18: evaluate.tasks[0]: no 'tinyworld_cloz' here; did you mean tinyworld_cloze?"),
    ("model: pretrain", "model: pretrian", "r.yaml:15: sft.model: no stage above and no folder is called 'pretrian'; did you mean pretrain?"),
    ("model: pretrain", "model: evaluate", "r.yaml:15: sft.model: evaluate comes later"),
    ("model: pretrain", "model: sft", "r.yaml:15: sft.model: names its own stage"),
    ("model: pretrain", "model: tokenize", "r.yaml:15: sft.model: tokenize makes shards, not model; there is pretrain"),
    ("    model: pretrain\n", "", "r.yaml:14: sft.model: SFT needs this key"),
    ("seed: 3", "seeed: 3", "r.yaml:2: seeed: no such key in a recipe; did you mean seed?"),
    ("seed: 3", "seed: 3.5", "r.yaml:2: seed: must be a whole number, not the number 3.5"),
    ("name: small", "name: a/b", "r.yaml:1: name: 'a/b' cannot name a folder"),
    ("${steps}", "${stepz}", "r.yaml:13: pretrain.args.max_steps: no variable 'stepz' in vars; did you mean steps?"),
    ("where: here", 'where: "${here}"', "r.yaml:4: vars.where: ${here} stands in a variable; write out what it holds"),
    ("  sft:", "  sft.2: {stage: sft, model: pretrain, dataset: [{tinyworld: conversations}]}\n  sft:", "r.yaml:14: sft.2: holds a dot"),
    ("learning_rate: 1e-3", "learning_rate: .nan", "r.yaml:13: pretrain.args.learning_rate: nan is no number from 0 up"),
    ("learning_rate: 1e-3", "weight_decay: -1", "r.yaml:13: pretrain.args.weight_decay: -1 is no number from 0 up"),
    ("  tokenizer: {", "  tokeniser: {", "r.yaml:9: tokeniser: no stage is called 'tokeniser'; did you mean tokenizer?"),
    ("sft.args.max_steps: 1", "sfft.args.max_steps: 1", "r.yaml:20: sfft.args.max_steps: 'sfft' is no stage"),
    ("seed: 3\n", "seed: 3\nseed: 4\n", "r.yaml:3: seed: given twice, first on line 2; keep one"),
    ("n_head: 2", "n_head: 3", "r.yaml:12: pretrain.config"),
    ("n_head: 2", "n_head: 2, n_positions: 32", "r.yaml:12: pretrain.config.n_positions"),
    ("n_head: 2", "n_head: 2, vocab_size: 100", "r.yaml:12: pretrain.config.vocab_size"),
    ("args: {max_steps: 5}", "args: {max_length: 128}", "r.yaml:17: sft.args.max_length"),
    ("vocab_size: 512", "vocab_size: 100", "r.yaml:9: tokenizer.vocab_size"),
    ("context_length: 64", "context_length: 64, validation_fraction: 0", "r.yaml:11: pretrain.shards: tokenize holds out no document"),
    ("tinyworld_cloze]", "bits_per_byte], shards: tokenize, generation: {max_new_tokens: 0}", "r.yaml:18: evaluate.generation.max_new_tokens: 0 is not positive"),
    ("context_length: 64", "context_length: 8", "r.yaml:18: evaluate.tasks[0]: 8 new tokens leave no room for a prompt in pretrain's 8"),
    ("args: {max_steps: 5}", "patches: [gelo]", "r.yaml:17: sft.patches: no patch is called 'gelo'; did you mean gelu?"),
    ("args: {max_steps: 5}", "optimizer: {muon: {learning_rate: -1}}", "r.yaml:17: sft.optimizer.muon: learning_rate: -1 is negative"),
    ("args: {max_steps: 5}", "args: {lr_scheduler_type: warmup_stable_decay, lr_scheduler_kwargs: {num_decay_step: 2}}", "r.yaml:17: sft.args.lr_scheduler_kwargs.num_decay_step: no such key in the schedule warmup_stable_decay; did you mean num_decay_steps?"),
    ("learning_rate: 1e-3", "lr_scheduler_kwargs: {min_lr_rate: 0.1}", "r.yaml:13: pretrain.args.lr_scheduler_kwargs.min_lr_rate: no such key in the schedule linear; linear takes none; cosine_with_min_lr"),
    ("args: {max_steps: 5}", "args: {save_only_model: true}", "r.yaml:17: sft.args.save_only_model: has no place here; a stopped training"),
    ("[{tinyworld: conversations}]", "[{path: x.jsonl, split: test}]", "r.yaml:16: sft.dataset[0]: split: a path has no 'test'"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), CASES, ids=[c[2].split(": ")[1] for c in CASES])
def test_each_fault_has_its_line_path_and_remedy(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    found = problems(tmp_path, GOOD.replace(old, new, 1))
    assert any(problem.startswith(message) for problem in found), found


def test_all_faults_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = GOOD
    for old, new, _ in (CASES[0], CASES[1], CASES[3], CASES[5], CASES[9]):
        text = text.replace(old, new, 1)
    found = problems(tmp_path, text, ["sft.args.lr=1"])
    lines = [int(p.split(":")[1]) for p in found if p.startswith("r.yaml")]
    assert lines == [3, 12, 13, 15, 17]
    assert found[-1].startswith("command line: sft.args.lr: no such key in SFTConfig")


def test_two_makers_of_one_thing_are_named(tmp_path: Path) -> None:
    twice = GOOD.replace("  tokenize:", "  other: {stage: tokenizer, vocab_size: 300}\n  tokenize:")
    found = problems(tmp_path, twice)
    assert any("tokenizer and other both make tokenizer; say which" in p for p in found), found
    chosen = twice.replace("context_length: 64", "context_length: 64, tokenizer: tokenizer")
    chosen = chosen.replace("  pretrain:\n", "  pretrain:\n    tokenizer: tokenizer\n")
    assert load(tmp_path, chosen).kinds["other"] == "tokenizer"


def test_nothing_above_makes_what_is_needed(tmp_path: Path) -> None:
    text = "stages:\n  tokenizer: {vocab_size: 512}\n"
    assert problems(tmp_path, text)[0].startswith(
        "r.yaml:2: tokenizer.documents: no stage above makes documents"
    )


@pytest.mark.parametrize(
    "text", ["", "- a\n- b\n", "just words", "a: [1", "name: x\n", "stages:\n"]
)
def test_what_is_no_recipe_says_so(tmp_path: Path, text: str) -> None:
    assert all(p.startswith("r.yaml") for p in problems(tmp_path, text))


@pytest.mark.parametrize(
    "override",
    ["sft.args.lerning_rate=1", "stf.args.max_steps=1", "novalue", "curate.sources[4].x=1"],
)
def test_wrong_overrides_are_told_as_the_command_lines(tmp_path: Path, override: str) -> None:
    (problem,) = problems(tmp_path, GOOD, [override])
    assert problem.startswith("command line: ")


@pytest.mark.parametrize("overrides", [{3: 1}, {None: 1}, {("seed",): 1}, [3], [None]])
def test_overrides_of_no_known_form_are_told(tmp_path: Path, overrides: object) -> None:
    (problem,) = problems(tmp_path, GOOD, overrides)
    assert problem.startswith("command line: ") and "an override" in problem


@pytest.mark.parametrize("key", ["launch", "executor", "engine", "time_limit"])
def test_keys_that_nothing_honours_yet_are_refused_with_the_way_until_then(
    tmp_path: Path, key: str
) -> None:
    (problem,) = problems(tmp_path, overrides=[f"sft.{key}=x"])
    assert problem.startswith(f"command line: sft.{key}: is not honoured yet; ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=abc", "seed: must be a whole number, not the text 'abc'"),
        ("seed=true", "seed: must be a whole number, not true"),
        ("seed=-1", "seed: -1 is no seed of numpy; it takes 0 to 4294967295"),
        ("name=[a]", "name: ['a'] cannot name a folder; use letters"),
        ("stages=3", "stages: must be a mapping, not the number 3"),
        ("vars=3", "vars: must be a mapping, not the number 3"),
        ("profiles.smoke.seed=1", "profiles.smoke.seed: profiles stand in the recipe alone"),
    ],
)
def test_top_level_keys_are_judged_after_the_overrides(
    tmp_path: Path, override: str, message: str
) -> None:
    (problem,) = problems(tmp_path, overrides=[override])
    assert problem.startswith(f"command line: {message}")


def test_name_and_seed_may_come_from_variables(tmp_path: Path) -> None:
    text = GOOD.replace("name: small\nseed: 3\n", "name: ${n}\nseed: ${s}\n")
    recipe = load(tmp_path, text.replace("vars: {", "vars: {n: run_a, s: 7, "))
    assert (recipe.name, recipe.seed) == ("run_a", 7)


def test_an_unknown_profile(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, GOOD, (), "smok")
    assert problem == "command line: --profile: no profile 'smok'; did you mean smoke?"


def test_a_profile_names_the_folder_of_its_run(tmp_path: Path) -> None:
    assert load(tmp_path).run_name == load(tmp_path).name
    assert load(tmp_path, profile="smoke").run_name == f"{load(tmp_path).name}-smoke"
    (problem,) = problems(tmp_path, GOOD.replace("  smoke:", "  a/b:"))
    assert "profiles.a/b: cannot name a folder" in problem


def test_a_model_folder_and_a_hub_id_are_references(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for model in (str(folder), "openai-community/gpt2"):
        recipe = load(tmp_path, GOOD.replace("model: pretrain", f"model: {model}", 1))
        assert str(recipe.references["sft"][model]) == model


def test_what_a_model_folder_says_of_itself_is_checked(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text('{"n_positions": 16, "vocab_size": 512}')
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>", "pad_token": "<pad>"}')
    text = GOOD.replace("model: pretrain", f"model: {folder}", 1)
    found = problems(tmp_path, text.replace("args: {max_steps: 5}", "args: {max_length: 64}"))
    assert any("sft.args.max_length" in p for p in found), found
    assert any("chat template" in p for p in found), found


def test_missing_recipes_are_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean quickstart"):
        find("quickstrat")
    with pytest.raises(InputError, match="is a folder"):
        find(tmp_path)
    with pytest.raises(InputError, match="UTF-8"):
        (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
        Recipe.load(tmp_path / "b.yaml")


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_recipe_checks_with_every_profile(name: str) -> None:
    for profile in (None, *Recipe.load(name).profiles):
        Recipe.load(name, profile=profile)


def test_a_second_pretraining_is_fresh_unless_it_names_a_model(tmp_path: Path) -> None:
    """Every other reference that is left out is filled in."""
    file = tmp_path / "r.yaml"
    file.write_text(
        "stages:\n  curate: {sources: [{tinyworld: {num_documents: 9}}]}\n"
        "  tokenizer: {vocab_size: 300}\n  tokenize: {context_length: 16}\n"
        "  pretrain: {}\n  fresh: {stage: pretrain}\n  more: {stage: pretrain, model: pretrain}\n"
    )
    recipe = Recipe.load(file)
    assert [recipe.stages[name].model for name in ("pretrain", "fresh", "more")] == [
        None,
        None,
        "pretrain",
    ]
    assert "pretrain" in recipe.references["more"] and "pretrain" not in recipe.references["fresh"]
    assert recipe.stages["fresh"].shards == "tokenize"


def test_what_is_wrong_under_a_profile_names_it(tmp_path: Path) -> None:
    """An override that suits the recipe may not suit the other models of its profiles."""
    file = tmp_path / "r.yaml"
    other = "{pretrain.config: {model_type: llama, hidden_size: 32}}"
    file.write_text(GOOD + f"  big: {other}\n  wide: {other}\n")
    assert [recipe.profile for recipe in Recipe.load_each(file)] == [None, "smoke", "big", "wide"]
    with pytest.raises(RecipeError) as caught:
        Recipe.load_each(file, ["pretrain.config.n_layer=2"])
    assert caught.value.problems == [
        f"command line: pretrain.config.n_layer: no such key in LlamaConfig (under profile {name})"
        for name in ("big", "wide")
    ]
    with pytest.raises(RecipeError) as caught:
        Recipe.load_each(file, ["pretrain.config.n_lair=2"])
    assert "GPT2Config" in str(caught.value) and "under profile" not in str(caught.value)


def test_the_commands_beside_gpt2_can_be_typed_one_after_another() -> None:
    """Recipe, profile and stage are there, and what runs one stage follows what made the others."""
    lines = (shipped() / "gpt2" / "README.md").read_text(encoding="utf-8").splitlines()
    typed = [shlex.split(line, comments=True) for line in lines if line.startswith("llmkit ")]
    whole = set()
    for _, command, *words in typed:
        parser = argparse.ArgumentParser(exit_on_error=False)
        COMMANDS[command][0](parser)
        options = parser.parse_intermixed_args(words)
        recipe = Recipe.load(options.recipe, options.overrides, options.profile)
        if command == "run" and options.only:
            assert options.only in recipe.stages and recipe.run_name in whole, words
        elif command == "run":
            whole.add(recipe.run_name)
    assert len(typed) >= 4 and len(whole) >= 2
