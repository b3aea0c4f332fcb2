"""Whole batches: against `generate`, against the row alone, and where rows end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_gpt2 import CONTEXT, by_hand, next_logits, random_lengths, random_prompts, tiny_gpt2
from transformers import GenerationConfig

from llmkit.decoding import loop
from llmkit.decoding.loop import decode
from llmkit.decoding.support import why_not
from llmkit.errors import InputError


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_gpt2()


def generated(model: Any, prompts: list[list[int]], config: GenerationConfig) -> list[list[int]]:
    """The new ids of each row by transformers' own loop, left-padded and cut after its stop."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    rows = []
    for row in output[:, width:].tolist():
        ends = [i for i, token in enumerate(row) if token in (config.eos_token_id or [])]
        rows.append(row[: ends[0] + 1] if ends else row)
    return rows


@pytest.mark.parametrize("case", range(24))
def test_greedy_ids_equal_generates(case: int) -> None:
    """Random weights, prompts, lengths and stops; among them rows that end at once."""
    model = tiny_gpt2(seed=case)
    count = [1, 2, 5, 16][case % 4]
    new = [1, 12, 20][case % 3]
    prompts = random_prompts(random_lengths(count, CONTEXT - new, case), case)
    config = GenerationConfig(max_new_tokens=new, pad_token_id=0, do_sample=False)
    free = generated(model, prompts, config)
    assert decode(model, prompts, config).ids == free
    config.eos_token_id = [free[0][0], free[-1][new // 2]]
    expected = generated(model, prompts, config)
    found = decode(model, prompts, config)
    assert found.ids == expected
    assert found.ended == [row[-1] in config.eos_token_id for row in expected]
    assert expected[0] == free[0][:1]


def test_the_longest_and_the_shortest_prompt_up_to_the_end_of_the_context(model: Any) -> None:
    prompts = random_prompts([CONTEXT - 8, 1, CONTEXT - 8, 2])
    config = GenerationConfig(max_new_tokens=8, pad_token_id=0)
    assert decode(model, prompts, config).ids == [by_hand(model, p, 8, [])[0] for p in prompts]


@pytest.fixture(scope="module")
def unended(model: Any) -> dict[tuple[int, ...], list[int]]:
    """Twelve prompts, and how each goes on for 15 tokens if nothing stops it."""
    prompts = random_prompts(random_lengths(12, 20, 5), 5)
    return {tuple(prompt): by_hand(model, prompt, 15, [])[0] for prompt in prompts}


@pytest.mark.parametrize("look_every", [1, 3, 100])
@pytest.mark.parametrize("full_enough", [0.0, 0.5, 1.0])
def test_when_rows_are_dropped_changes_nothing(
    model: Any,
    unended: dict[tuple[int, ...], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    look_every: int,
    full_enough: float,
) -> None:
    monkeypatch.setattr(loop, "LOOK_EVERY", {"cpu": look_every})
    monkeypatch.setattr(loop, "FULL_ENOUGH", full_enough)
    stops = {row[i] for i, row in enumerate(unended.values())}
    config = GenerationConfig(max_new_tokens=15, eos_token_id=list(stops))
    found = decode(model, list(unended), config)
    ends = [[i for i, token in enumerate(row) if token in stops] for row in unended.values()]
    rows = zip(unended.values(), ends, strict=True)
    assert found.ids == [row[: end[0] + 1] if end else row for row, end in rows]
    assert found.ended == [bool(end) for end in ends]
    assert len({len(row) for row in found.ids}) > 2


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.6}, {"temperature": 1.7, "top_k": 9}])
def test_log_probabilities_are_those_of_a_forward_over_the_whole_row(
    model: Any, settings: dict[str, Any]
) -> None:
    prompts = random_prompts([3, 14, 1, 14, 8])
    config = GenerationConfig(do_sample=True, max_new_tokens=9, eos_token_id=[5, 9, 11], **settings)
    uniforms = torch.rand(5, 9, generator=torch.Generator().manual_seed(1))
    found = decode(model, prompts, config, uniforms, log_probabilities=True)
    for prompt, ids, scored in zip(prompts, found.ids, found.log_probabilities, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        log_p = (logits / settings.get("temperature", 1.0)).log_softmax(-1)
        expected = log_p.gather(1, torch.tensor(ids)[:, None])[:, 0].tolist()
        assert scored == pytest.approx(expected, abs=2e-4)


def test_a_token_is_drawn_where_the_summed_probability_passes_the_rows_number(model: Any) -> None:
    """By hand, row by row, and each row by its own numbers, though rows end and are dropped."""
    prompts = random_prompts([6, 2, 11, 2, 9, 4, 4])
    uniforms = torch.rand(7, 8, generator=torch.Generator().manual_seed(2))
    stops, heat = list(range(0, 97, 7)), 40.0  # hot, so that the number decides
    config = GenerationConfig(
        do_sample=True, max_new_tokens=8, eos_token_id=stops, temperature=heat
    )
    found = decode(model, prompts, config, uniforms).ids
    for prompt, ids, numbers in zip(prompts, found, uniforms.tolist(), strict=True):
        for t, token in enumerate(ids):
            p = (next_logits(model, prompt + ids[:t]) / heat).double().softmax(-1).cumsum(-1)
            below = 0.0 if token == 0 else float(p[token - 1])
            assert below - 1e-5 <= numbers[t] <= float(p[token]) + 1e-5
        assert len(ids) == 8 or ids[-1] in stops
    assert len({len(ids) for ids in found}) > 2


def test_a_broken_model_is_told(model: Any) -> None:
    broken = tiny_gpt2()
    with torch.no_grad():
        broken.transformer.ln_f.bias[3] = float("nan")
    for sampling in (False, True):
        config = GenerationConfig(max_new_tokens=3, do_sample=sampling)
        with pytest.raises(InputError, match="not finite"):
            decode(broken, [[1, 2]], config, torch.rand(1, 3) if sampling else None)


def test_the_model_is_left_as_it_was(model: Any) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    decode(model, random_prompts([3, 4]), GenerationConfig(max_new_tokens=3))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not [m for m in model.modules() if "forward" in vars(m)]
    assert not [p for p in model.parameters() if p.is_inference()]


@pytest.mark.gpu
def test_on_a_gpu_as_on_a_cpu() -> None:
    model = tiny_gpt2()
    prompts = random_prompts(random_lengths(16, 20, 1))
    config = GenerationConfig(max_new_tokens=19, eos_token_id=[3, 40], do_sample=True)
    uniforms = torch.rand(16, 19, generator=torch.Generator().manual_seed(3))
    greedy = GenerationConfig(max_new_tokens=19, eos_token_id=[3, 40])
    expected = decode(model, prompts, greedy), decode(model, prompts, config, uniforms, True)
    model.to("cuda")
    assert why_not(model, config) == ""
    assert decode(model, prompts, greedy) == expected[0]
    found = decode(model, prompts, config, uniforms, True)
    assert found.ids == expected[1].ids
    for row, wanted in zip(found.log_probabilities, expected[1].log_probabilities, strict=True):
        assert row == pytest.approx(wanted, abs=1e-3)
