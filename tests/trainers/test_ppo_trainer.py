"""PPOTrainer: what its updates are made of, that it goes on as it stopped, and what it refuses."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_chat import tiny_folder, tiny_model, tiny_tokenizer
from tiny_ppo import ASKED, ppo_config, ppo_trainer, vowels

from llmkit.errors import GateError, UserError
from llmkit.stage import Context
from llmkit.trainers.adapters import old_name_allowed
from llmkit.trainers.critic import load_critic
from llmkit.trainers.ppo_rollout import Rollout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two rollouts of 8, gone over twice in two updates each."""
    trainer = ppo_trainer(tmp_path_factory.mktemp("trained"))
    trainer.train()
    return trainer


def curve(trainer: Any) -> list[dict[str, float]]:
    return [row for row in trainer.state.log_history if "objective/kl" in row]


# What an update is made of --------------------------------------------------------------------


def test_the_first_ratio_is_one_and_the_first_kl_nothing(trained: Any) -> None:
    first, second = curve(trained)
    assert trained.first_ratio == 0.0
    assert first["objective/kl"] == 0.0 and first["objective/non_score_reward"] == 0.0
    assert second["objective/kl"] != 0.0
    # Four updates, of which the first has ratios of exactly 1 and the others have moved.
    assert first["policy/approxkl_avg"] > 0 and first["val/ratio"] != 1.0


def test_metrics_have_the_names_of_trl(trained: Any) -> None:
    names = """objective/kl objective/entropy objective/non_score_reward objective/rlhf_reward
        objective/scores policy/approxkl_avg policy/clipfrac_avg policy/entropy_avg
        loss/policy_avg loss/value_avg val/clipfrac_avg val/ratio val/ratio_var val/num_eos_tokens
        val/explained_variance objective/kl_coef reward""".split()
    for row in curve(trained):
        assert set(names) <= set(row)
        assert row["objective/scores"] == pytest.approx(row["reward"])
        penalised = row["objective/scores"] + row["objective/non_score_reward"]
        assert row["objective/rlhf_reward"] == pytest.approx(penalised)
        assert "clip_ratio/low_mean" not in row and "frac_reward_zero_std" not in row


def test_a_dropout_left_on_is_seen(tmp_path: Path) -> None:
    trainer = ppo_trainer(tmp_path)
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    with pytest.raises(GateError, match="first_ratio.*at most 0.0001"):
        trainer.train()
    assert trainer.first_ratio > 1e-3


def test_left_padding_changes_no_log_probability(tmp_path: Path) -> None:
    """Rows of unequal prompts against each row alone, with positions that are felt."""
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    torch.nn.init.normal_(model.transformer.wpe.weight)
    trainer = ppo_trainer(tmp_path, model=model)
    prompts, completions = [[5, 9, 20, 33, 7], [8], [4, 4, 40]], [[9, 3], [7, 6, 5, 2], [1, 1, 1]]
    rollout = Rollout(prompts, completions, tokenizer.pad_token_id, "cpu")
    batch = rollout.batch(torch.arange(3))
    scored = trainer._scored(batch)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        ids = torch.tensor([prompt + completion])
        with torch.no_grad():
            log_p = trainer.model(ids).logits[0].double().log_softmax(-1)
        for t, token in enumerate(completion):
            wanted = float(log_p[len(prompt) + t - 1, token])
            assert float(scored["log_probs"][row, t]) == pytest.approx(wanted, abs=1e-5)
            assert float(scored["reference"][row, t]) == pytest.approx(wanted, abs=1e-5)


def test_trls_chunked_head_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = ppo_trainer(tmp_path, temperature=0.7)
    rollout = Rollout([[5, 9], [8]], [[9, 3, 2], [7]], 1, "cpu")
    batch = rollout.batch(torch.arange(2))
    own = trainer._log_probs(trainer.model, batch, entropy=True)
    monkeypatch.setattr("llmkit.trainers.ppo_scoring.LOGITS", 1)
    theirs = trainer._log_probs(trainer.model, batch, entropy=True)
    mask = batch["completion_mask"].bool()
    for mine, other in zip(own, theirs, strict=True):
        assert torch.allclose(mine[mask], other[mask], atol=1e-5)


def test_the_loss_is_the_mean_over_the_tokens_of_the_update(tmp_path: Path) -> None:
    """By hand from the equations, one token at a time; moved log-probabilities and values."""
    trainer = ppo_trainer(tmp_path)
    settings, batch = trainer.args, a_batch(trainer)
    trainer.model.train()
    loss = float(trainer._compute_loss(trainer.model, batch).detach())
    now, values = trainer._scored(batch)["log_probs"], trainer.values(batch).detach()
    total = 0.0
    for row, t in batch["completion_mask"].nonzero().tolist():
        ratio = math.exp(float(now[row, t] - batch["log_probs"][row, t]))
        advantage, held = float(batch["advantages"][row, t]), min(max(ratio, 0.8), 1.2)
        value, old = float(values[row, t]), float(batch["values"][row, t])
        aim = float(batch["returns"][row, t])
        near = old + min(max(value - old, -0.2), 0.2)
        total += max(-advantage * ratio, -advantage * held)
        total += settings.vf_coef * max((value - aim) ** 2, (near - aim) ** 2) / 2
    assert loss == pytest.approx(total / float(batch["completion_mask"].sum()), rel=1e-4)


def a_batch(trainer: Any) -> Any:
    """Three completions, whose old log-probabilities and values differ from those of now."""
    rollout = Rollout([[5, 9], [8], [3, 3]], [[9, 3, 2, 4], [7], [6, 6]], 1, "cpu")
    batch = rollout.batch(torch.arange(3))
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(batch["log_probs"].shape, generator=generator) for _ in range(4)]
    batch["log_probs"] = trainer._scored(batch)["log_probs"] + 0.3 * noise[0]
    batch["advantages"], batch["values"], batch["returns"] = noise[1], 0.4 * noise[2], noise[3]
    return batch | {"tokens": batch["completion_mask"].sum()}


def test_accumulation_makes_the_same_updates(tmp_path: Path) -> None:
    """Two micro-batches of 2 and one of 4 are the same update, though their lengths differ."""
    found = []
    for size, steps in ((4, 1), (2, 2)):
        trainer = ppo_trainer(
            tmp_path / str(size),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_grad_norm=1000.0,
            max_steps=4,
            optim="sgd",
            learning_rate=0.5,
        )
        trainer.train()
        assert trainer.first_ratio == 0.0
        found.append({k: v.clone() for k, v in trainer.model.state_dict().items()})
        found[-1] |= {f"critic.{k}": v for k, v in trainer.value_model.state_dict().items()}
    for name, tensor in found[0].items():
        assert torch.allclose(tensor, found[1][name], atol=1e-5), name


def test_every_completion_is_in_one_update_of_each_epoch(tmp_path: Path) -> None:
    rollout = Rollout(
        [[1] * (1 + i % 3) for i in range(12)], [[1 + i] for i in range(12)], 0, "cpu"
    )
    orders = [rollout.order(3, 2, torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    for order in orders:
        rows = [row for update in order for part in update for row in part.tolist()]
        assert sorted(rows) == list(range(12)) and [len(update) for update in order] == [2, 2, 2]
        for update in order:
            widths = [int(w) for part in update for w in rollout.widths[part, 0]]
            assert widths == sorted(widths, reverse=True)
    assert [u[0].tolist() for u in orders[0]] != [u[0].tolist() for u in orders[1]]


def test_epochs_are_shuffled_anew(trained: Any) -> None:
    trained.state.global_step, before = 4, trained.state.global_step
    first = trained._order(trained._rollout)
    trained.state.global_step = 6
    second = trained._order(trained._rollout)
    trained.state.global_step = before
    assert [[p.tolist() for p in u] for u in first] != [[p.tolist() for p in u] for u in second]


def test_an_unfinished_completion_pays_its_penalty(tmp_path: Path) -> None:
    trainer = ppo_trainer(tmp_path, missing_eos_penalty=2.0)
    end = trainer.eos_token_ids[0]
    said = [[{"role": "assistant", "content": text}] for text in ("ae", "x")]
    rows = [{"prompt": [{"role": "user", "content": "a"}]}] * 2
    scores, _ = trainer._scores(rows, [row["prompt"] for row in rows], said, [[5, end], [5, 6]])
    assert scores.tolist() == [1.0, -2.0]


def test_the_coefficient_follows_its_target(tmp_path: Path) -> None:
    trainer = ppo_trainer(tmp_path, kl_coef=0.1, kl_target=1.0, kl_horizon=80)
    trainer.train()
    first, second = (row["objective/kl_coef"] for row in curve(trainer))
    assert first == 0.1  # KL 0 is 1 below its target: counted as 0.2, 8 of 80 completions
    assert second == pytest.approx(0.1 * (1 - 0.2 * 8 / 80))


def test_weights_of_rewards(tmp_path: Path) -> None:
    def length(completions: Any, **columns: Any) -> list[float]:
        return [float(len(completion[-1]["content"])) for completion in completions]

    trainer = ppo_trainer(tmp_path, reward_funcs=[vowels, length], reward_weights=[2.0, 0.5])
    rows = [{"prompt": [{"role": "user", "content": "a"}]}] * 2
    said = [[{"role": "assistant", "content": text}] for text in ("aexx", "x")]
    scores, parts = trainer._scores(rows, [row["prompt"] for row in rows], said, [[5], [6]])
    assert scores.tolist() == [2 * 0.5 + 0.5 * 4, 0.5]
    assert {name: part.tolist() for name, part in parts.items()} == {
        "vowels": [0.5, 0.0],
        "length": [4.0, 1.0],
    }


# Learning -----------------------------------------------------------------------------------


def test_reward_rises_and_both_models_move(tmp_path: Path) -> None:
    trainer = ppo_trainer(
        tmp_path, max_steps=80, learning_rate=1e-2, per_device_train_batch_size=8, asked=ASKED * 40
    )
    before = copy.deepcopy(trainer.value_model.state_dict())
    reference = copy.deepcopy(trainer.ref_model.state_dict())
    trainer.train()
    scores = [row["objective/scores"] for row in curve(trainer)]
    assert sum(scores[-5:]) / 5 > sum(scores[:5]) / 5 + 0.05
    moved = trainer.value_model.state_dict()
    assert all(not torch.equal(moved[name], tensor) for name, tensor in before.items())
    for name, tensor in trainer.ref_model.state_dict().items():
        assert torch.equal(tensor, reference[name])


def test_the_critic_is_clipped_and_stepped_by_itself(tmp_path: Path) -> None:
    """SGD at rate 1: the value model moves by exactly the clipped norm, the policy by nothing."""
    trainer = ppo_trainer(
        tmp_path,
        optim="sgd",
        learning_rate=0.0,
        critic_learning_rate=1.0,
        max_grad_norm=1e-3,
        max_steps=1,
        lr_scheduler_type="constant",
        vf_coef=10.0,
    )
    policy = copy.deepcopy(trainer.model.state_dict())
    before = [p.detach().clone() for p in trainer.value_model.parameters()]
    trainer.train()
    steps = [p.detach() - b for p, b in zip(trainer.value_model.parameters(), before, strict=True)]
    norm = math.sqrt(sum(float(step.double().square().sum()) for step in steps))
    assert norm == pytest.approx(1e-3, rel=1e-2)
    assert all(torch.equal(v, policy[k]) for k, v in trainer.model.state_dict().items())


def test_muon_trains_the_policy_and_adamw_the_critic(tmp_path: Path) -> None:
    trainer = ppo_trainer(tmp_path, optimizer="muon", critic_learning_rate=0.5, max_steps=2)
    trainer.create_optimizer()
    critic = {id(p) for p in trainer.value_model.parameters()}
    own = [g for g in trainer.optimizer.param_groups if id(g["params"][0]) in critic]
    assert sum(len(g["params"]) for g in own) == len(critic)
    assert {(g["algorithm"], g["lr"]) for g in own} == {("adamw", 0.5)}
    trainer.train()
    assert trainer.first_ratio == 0.0


def test_an_adapter(tmp_path: Path) -> None:
    from peft import LoraConfig

    config = LoraConfig(r=4, target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True)
    trainer = ppo_trainer(tmp_path, peft_config=config)
    trainer.train()
    first, second = curve(trainer)
    assert trainer.first_ratio == 0.0 and first["objective/kl"] == 0.0
    assert second["objective/kl"] != 0.0 and trainer.ref_model is None


# Going on -----------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, bytes]:
    """The policy and the value model that a trainer saved."""
    return {
        name: (folder / name).read_bytes()
        for name in ("model.safetensors", "value_model/model.safetensors")
    }


SAVING = {"save_strategy": "steps", "save_steps": 4, "max_steps": 20, "kl_target": 1.0}


@pytest.mark.parametrize("stopped_at", [8, 16])
def test_a_training_that_goes_on_ends_in_the_same_bytes(tmp_path: Path, stopped_at: int) -> None:
    """Four rollouts are an epoch of the prompts here, so that one stop is on its boundary."""
    whole = ppo_trainer(tmp_path / "whole", **SAVING)
    whole.train()
    whole.save_model(str(tmp_path / "whole"))
    again = ppo_trainer(tmp_path / "again", **SAVING)
    again.train(resume_from_checkpoint=str(tmp_path / f"whole/checkpoint-{stopped_at}"))
    again.save_model(str(tmp_path / "again"))
    assert files_of(tmp_path / "again") == files_of(tmp_path / "whole")
    assert again.controller.coefficient == whole.controller.coefficient
    assert [r["reward"] for r in curve(again)] == [r["reward"] for r in curve(whole)]


def test_checkpoints_fall_where_a_rollout_is_used_up(tmp_path: Path) -> None:
    trainer = ppo_trainer(tmp_path, save_strategy="steps", save_steps=3, max_steps=8)
    trainer.train()
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-8"]
    state = json.loads((tmp_path / "checkpoint-8/ppo.json").read_text())
    assert state == {"kl_coef": 0.05, "first_ratio": 0.0}


def test_measuring_leaves_no_trace_in_the_training(tmp_path: Path, trained: Any) -> None:
    trainer = ppo_trainer(tmp_path)
    rows = [{"prompt": [{"role": "user", "content": text}]} for text in ASKED]
    first, second = trainer.measure(rows), trainer.measure(rows)
    assert first == second and first.mean_kl == 0.0 and len(first.scores) == len(ASKED)
    trainer.train()
    assert [r["reward"] for r in curve(trainer)] == [r["reward"] for r in curve(trained)]
    assert len(trainer.measure(rows + rows[:1]).scores) == 9  # the last one alone
    after = trainer.measure(rows)
    assert after.mean_kl != 0.0 and trainer.model.training
    figures = trainer.figures(first, after)
    gain = sum(after.scores) / 8 - sum(first.scores) / 8
    assert figures["reward_gain"] == pytest.approx(gain)
    assert figures["reward_gain_low"] < gain < figures["reward_gain_high"]


def test_evaluation_measures_and_changes_nothing(trained: Any) -> None:
    before = copy.deepcopy(trained.model.state_dict())
    found = trained.evaluate(eval_dataset=trained.train_dataset.select(range(8)))
    assert math.isfinite(found["eval_loss"])
    assert all(torch.equal(v, before[k]) for k, v in trained.model.state_dict().items())


# Gates and refusals ---------------------------------------------------------------------------


def test_a_policy_that_runs_away_is_stopped(tmp_path: Path) -> None:
    context = Context(name="ppo", out=tmp_path)
    trainer = ppo_trainer(tmp_path, kl_bound=0.5, kl_coef=0.0, learning_rate=0.1, context=context)
    with pytest.raises(GateError, match="kl_within.*at most 0.5 nats.*raise kl_coef"):
        trainer.train()


def test_gates_that_warn_are_told_once(tmp_path: Path) -> None:
    context = Context(name="ppo", out=tmp_path, gates="warn")
    trainer = ppo_trainer(
        tmp_path, kl_bound=1e-9, learning_rate=0.1, kl_coef=0.0, context=context, max_steps=16
    )
    trainer.train()
    trainer.record_gates(3.0)
    assert [(g["gate"], g["passed"]) for g in context.gate_results] == [
        ("kl_within", False),
        ("first_ratio", True),
    ]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_a_reward_that_is_no_number_is_named(tmp_path: Path, bad: float | None) -> None:
    def odd(completions: Any, **columns: Any) -> list[float | None]:
        return [0.0] * (len(completions) - 1) + [bad]

    with pytest.raises(UserError, match="reward odd: gave .*for the prompt .*user"):
        ppo_trainer(tmp_path, reward_funcs=odd).train()


def test_what_is_not_taken(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    with pytest.raises(ValueError, match="beta has no place in PPO: the KL penalty"):
        ppo_config(tmp_path, beta=0.1)
    with pytest.raises(ValueError, match="scale_rewards has no place.*groups"):
        ppo_config(tmp_path, scale_rewards="batch")
    with pytest.raises(ValueError, match="num_iterations has no place.*num_ppo_epochs"):
        ppo_config(tmp_path, num_iterations=3)
    with pytest.raises(ValueError, match="gamma: 1.5 is not between"):
        ppo_config(tmp_path, gamma=1.5)
    with pytest.raises(ValueError, match="kl_estimator"):
        ppo_config(tmp_path, kl_estimator="k2")
    with pytest.raises(ValueError, match="no spread"):
        ppo_config(tmp_path, per_device_train_batch_size=1, num_mini_batches=1)
    with pytest.raises(ValueError, match=r"does not hold num_generations \(3\)"):
        ppo_config(tmp_path, num_generations=3)
    adapter = LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True)
    with old_name_allowed():
        model = get_peft_model(tiny_model(tiny_tokenizer()), adapter)
    with pytest.raises(ValueError, match="base model and a peft_config"):
        ppo_trainer(tmp_path, model=model)


def test_in_python_a_folder_is_enough(tmp_path: Path) -> None:
    import llmkit

    tiny_folder(tmp_path / "base")
    assert isinstance(ppo_config(tmp_path), llmkit.PPOConfig)
    trainer = llmkit.PPOTrainer(
        model=str(tmp_path / "base"),
        args=ppo_config(tmp_path, max_steps=4),
        reward_funcs=[vowels],
        train_dataset=Dataset.from_dict({"prompt": ["Who bakes", "I", "the sea", "Anna"] * 2}),
        processing_class=tiny_tokenizer(),
    )
    trainer.train()
    trainer.save_model()
    assert load_critic(tmp_path).config.num_labels == 1
    assert curve(trainer)[0]["objective/kl"] == 0.0


def test_the_config_says_the_rollout(tmp_path: Path) -> None:
    config = ppo_config(tmp_path, gradient_accumulation_steps=3, num_generations=2)
    assert config.generation_batch_size == 4 * 3 * 2 and config.steps_per_generation == 6
    assert config.num_iterations == 2 and config.num_generations == 2
    assert ppo_config(tmp_path).num_generations == 1
    assert ppo_config(tmp_path, disable_dropout=True).disable_dropout


@pytest.mark.slow
def test_the_task_with_a_known_answer() -> None:
    """The best policy has 0.777 even ids at 2.6 nats a completion (benchmarks/ppo_even_tokens)."""
    import sys

    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    from ppo_even_tokens import measured, optimum

    share, kl = optimum(0.05)
    assert (share, kl) == (pytest.approx(0.777, abs=1e-3), pytest.approx(2.60, abs=0.01))
    found = measured(150)
    assert found["scores"] == pytest.approx(share, abs=0.02)
    assert found["kl"] == pytest.approx(kl, abs=0.4)
    assert found["explained_variance"] > 0.5 and found["first_ratio"] == 0.0
