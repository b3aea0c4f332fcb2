"""Rollouts: right log-probabilities, reference and order of prompts; exact resume."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_policy
import torch
from tiny_chat import tiny_model, tiny_tokenizer
from tiny_policy import context_in, make_inputs, tiny_stage
from tiny_training import artefacts

from llmkit.errors import GateError, Stopped
from llmkit.trainers.guard import batch_digest
from llmkit.trainers.rollouts import PromptOrder, Rollouts

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def finished(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted training: three passes and a bit over the prompts."""
    out = tmp_path_factory.mktemp("finished")
    tiny_stage().run(context_in(inputs, out))
    return out


def trainer_of(out: Path, model: Any = None, **changes: Any) -> Any:
    """A GRPO trainer on the toy task, as the stage makes it."""
    import datasets
    from trl import GRPOConfig

    from llmkit.rewards.task import tasks_reward
    from llmkit.stage import Context
    from llmkit.trainers.arguments import training_arguments
    from llmkit.trainers.group_policy import GRPO
    from llmkit.trainers.policy import row_of

    task = tiny_policy.Ascii()
    tokenizer = tiny_tokenizer()
    rows = [row_of(example, "ascii") for example in task.training_examples({}, 0)]
    args = {
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 8,
        "use_cpu": True,
        "bf16": False,
        "max_steps": 1,
    }
    return GRPO(
        model=tiny_model(tokenizer) if model is None else model,
        args=training_arguments(GRPOConfig, args | changes, out, 0),
        context=Context(name="grpo", out=out),
        reward_funcs=[tasks_reward({"ascii": task})],
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def padded(rows: list[list[int]], left: int, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of prompt and completion, the prompts padded on the left to `left` more tokens."""
    width = max(map(len, rows)) + left
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def test_log_probabilities_of_padded_rows_are_those_of_unpadded_ones(tmp_path: Path) -> None:
    model = tiny_model(tiny_tokenizer())
    with torch.no_grad():
        model.transformer.wpe.weight *= 30  # so that a wrong position shows
    trainer = trainer_of(tmp_path, model)
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(6, 300, (size,), generator=generator).tolist() for size in (9, 14, 23)]
    ids, mask = padded(rows, 5, trainer.processing_class.pad_token_id)
    keep = 6
    with torch.no_grad():
        found, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, keep)
        stock, _, _ = super(Rollouts, trainer)._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, keep
        )
        for index, row in enumerate(rows):
            logits = model(input_ids=torch.tensor([row])).logits[0, -keep - 1 : -1]
            truth = logits.log_softmax(-1).gather(1, torch.tensor(row[-keep:])[:, None])[:, 0]
            assert torch.allclose(found[index], truth, atol=1e-5)
            assert not torch.allclose(stock[index], truth, atol=1e-2)  # what this is for


def test_the_reference_is_the_model_as_it_was_given(tmp_path: Path) -> None:
    model = tiny_model(tiny_tokenizer())
    with torch.no_grad():
        model.transformer.wte.weight += 0.1  # no file anywhere holds these weights
    before = {name: value.clone() for name, value in model.state_dict().items()}
    args = {"beta": 0.5, "max_steps": 3, "learning_rate": 1e-2, "logging_steps": 1}
    trainer = trainer_of(tmp_path, model, **args)
    trainer.train()
    reference = trainer.ref_model.state_dict()
    assert all(torch.equal(reference[name], value) for name, value in before.items())
    assert not any(p.requires_grad for p in trainer.ref_model.parameters())
    kl = [row["kl"] for row in trainer.state.log_history if "kl" in row]
    assert kl[0] == pytest.approx(0, abs=1e-7) and kl[-1] > 1e-5
    assert trainer.args.beta == trainer.beta == 0.5


def test_no_reference_where_there_is_no_penalty(tmp_path: Path) -> None:
    assert trainer_of(tmp_path).ref_model is None


def test_the_first_ratio_of_a_rollout_is_one(tmp_path: Path) -> None:
    """TRL's own dropout would make it noise; here old and new log-probabilities agree."""
    from transformers import GPT2LMHeadModel

    config = tiny_model(tiny_tokenizer()).config
    config.resid_pdrop = config.attn_pdrop = config.embd_pdrop = 0.3
    trainer = trainer_of(tmp_path, GPT2LMHeadModel(config), num_iterations=2)
    trainer.model.train()
    rows = [trainer.train_dataset[index // 4] for index in range(8)]
    scored = trainer._generate_and_score_completions(rows)
    ids = torch.cat([scored["prompt_ids"], scored["completion_ids"]], 1)
    mask = torch.cat([scored["prompt_mask"], scored["completion_mask"]], 1)
    now, _, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, mask, scored["completion_ids"].shape[1]
    )
    difference = (now - scored["old_per_token_logps"]) * scored["completion_mask"]
    assert difference.abs().max() == 0


def test_a_typed_special_token_stays_text(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    asked = [[{"role": "user", "content": "<|end|>"}], [{"role": "user", "content": "x"}]]
    typed, plain = trainer._tokenize_prompts(asked)[0]
    end = trainer.processing_class.convert_tokens_to_ids("<|end|>")
    assert typed.count(end) == plain.count(end) == 1
    text = trainer.prompts_to_ids(["some <|end|>"])[0]
    assert text[0] == trainer.processing_class.bos_token_id and end not in text


def test_random_numbers_follow_from_the_step(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    draws = []
    for step in (0, 0, 1, 0):
        trainer.state.global_step = step
        draws.append(torch.rand(3, generator=trainer._next_generator()).tolist())
    assert draws[0] == draws[3] and len({tuple(draw) for draw in draws}) == 3
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    trainer.drawn([[7, 8]], trainer.generator("a"))
    assert torch.equal(torch.rand(1), wanted)  # the global ones are left alone


def test_an_order_of_prompts_for_each_epoch() -> None:
    order = PromptOrder(
        data_source=range(6), mini_repeat_count=2, batch_size=3, repeat_count=2, seed=1
    )
    orders = []
    for epoch in (0, 1, 0):
        order.epoch = lambda epoch=epoch: epoch
        orders.append(list(order))
    assert orders[0] == orders[2] != orders[1]
    first = orders[1][:12]
    assert first[:6] == first[6:] and first[0::2] == first[1::2] and len(set(first)) == 3
    assert sorted(set(orders[1])) == list(range(6)) and len(order) == 24


def test_reward_functions_are_told_what_ended(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    seen: dict[str, Any] = {}

    def reward(**columns: Any) -> list[float]:
        seen.update(columns)
        return [0.0, 1.0]

    trainer.reward_funcs = [reward]
    rows = [dict(trainer.train_dataset[0]) for _ in range(2)]
    stop = trainer.processing_class.eos_token_id
    trainer._calculate_rewards(rows, ["a", "b"], ["c", "d"], [[7, stop], [7, 8]])
    assert seen["ended"] == [True, False] and seen["details"] == ['{"number": 0}'] * 2
    assert "ended" not in rows[0]


def test_what_is_written_is_shown(finished: Path) -> None:
    lines = (finished / "logs" / "completions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert set(rows[0]) == {"step", "prompt", "completion", "reward", "rewards"}
    assert {row["step"] for row in rows} == set(range(1, 21))
    assert len({row["prompt"][-1]["content"] for row in rows[:4]}) == 4
    for row in rows:
        said = row["completion"] or "\ufffd"
        share = sum(c.isascii() for c in said) / len(said)
        assert row["reward"] == pytest.approx(share) == pytest.approx(row["rewards"]["ascii"])


@pytest.mark.parametrize("stopped_at", [3, 10, 20])
def test_a_broken_off_training_ends_in_the_same_bytes(
    inputs: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stopped_at: int,
) -> None:
    """A rollout lasts four steps, and an epoch 24: power goes inside of both."""
    from llmkit.trainers.display import ShowProgress

    inner = ShowProgress.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        inner(self, args, state, control, **kwargs)
        if state.global_step == stopped_at:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(ShowProgress, "on_step_end", on_step_end)
        with pytest.raises(RuntimeError, match="power cut"):
            tiny_stage().run(context_in(inputs, tmp_path))
    saved = [int(p.name.split("-")[1]) for p in tmp_path.glob("scratch/checkpoints/checkpoint-*")]
    assert all(step % 4 == 0 for step in saved)  # asked for at 5, 10, 15
    tiny_stage().run(context_in(inputs, tmp_path))
    assert artefacts(tmp_path) == artefacts(finished)


def test_a_signal_waits_for_the_end_of_the_rollout(
    inputs: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmkit.trainers.display import ShowProgress

    inner = ShowProgress.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        inner(self, args, state, control, **kwargs)
        if state.global_step == 9:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(ShowProgress, "on_step_end", on_step_end)
        with pytest.raises(Stopped):
            tiny_stage().run(context_in(inputs, tmp_path))
    assert (tmp_path / "scratch/checkpoints/checkpoint-12").is_dir()
    tiny_stage().run(context_in(inputs, tmp_path))
    assert artefacts(tmp_path) == artefacts(finished)


def test_a_second_pass_over_the_prompts_goes_on_too(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rollouts an epoch; broken off in the middle of the third epoch."""
    from llmkit.trainers.display import ShowProgress

    args = {"steps_per_generation": 1, "num_iterations": 1, "max_steps": 9, "save_steps": 2}
    stage = tiny_stage(tasks=(tiny_policy.Ascii(limit=6),), args=args)
    stage.run(context_in(inputs, tmp_path / "whole"))
    inner = ShowProgress.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        inner(self, args, state, control, **kwargs)
        if state.global_step == 8:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(ShowProgress, "on_step_end", on_step_end)
        with pytest.raises(RuntimeError, match="power cut"):
            stage.run(context_in(inputs, tmp_path / "broken"))
    stage.run(context_in(inputs, tmp_path / "broken"))
    assert artefacts(tmp_path / "broken") == artefacts(tmp_path / "whole")


@pytest.mark.slow
def test_kill_9_and_again_gives_the_same_bytes(
    inputs: Path, finished: Path, tmp_path: Path
) -> None:
    command = [sys.executable, tiny_policy.__file__, str(inputs), str(tmp_path)]
    with subprocess.Popen([*command, "0.2"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "step 14":
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert artefacts(tmp_path) == artefacts(finished)


def test_a_loss_that_is_not_finite_names_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(tmp_path)
    monkeypatch.setattr(
        trainer, "_compute_loss", lambda model, inputs: model.lm_head.weight.sum() * math.nan
    )
    with pytest.raises(GateError, match="loss nan at step 1, batch") as raised:
        trainer.train()
    assert batch_digest([]) not in str(raised.value)  # that of a batch without tensors
