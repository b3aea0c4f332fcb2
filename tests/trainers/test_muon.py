"""Muon against torch.optim.Muon, a formula by hand, and AdamW of torch for the rest."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import TrainingArguments as Arguments

from llmkit.trainers.muon import Muon, hidden_matrices, muon_for, newton_schulz
from llmkit.trainers.settings import MuonSettings


def group(parameters: list[nn.Parameter], **changes: object) -> dict[str, object]:
    return {
        "algorithm": "muon",
        "params": parameters,
        "parts": [1] * len(parameters),
        "transposed": [False] * len(parameters),
        "lr": 0.02,
        "weight_decay": 0.1,
        "momentum": 0.95,
        "iterations": 5,
        **changes,
    }


def tiny_gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=40, n_positions=8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_equals_torch_muon_matrix_by_matrix(dtype: torch.dtype) -> None:
    """torch computes in bfloat16: equal to its rounding, and in float32 to within it."""
    torch.manual_seed(1)
    shapes = [(8, 8), (12, 8), (8, 12), (8, 8), (31, 7)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    start = [parameter.detach().clone() for parameter in ours]
    optimizer = Muon([group(ours)], dtype)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95)
    for step in range(4):
        torch.manual_seed(10 + step)
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        optimizer.step()
        reference.step()
    for mine, other, first in zip(ours, theirs, start, strict=True):
        moved = (other - first).norm()
        assert (mine - other).norm() / moved < (0.003 if dtype == torch.bfloat16 else 0.02)


def test_one_step_by_hand() -> None:
    """For a 2 x 2 diagonal gradient the iteration acts on each singular value alone."""
    weight = nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    weight.grad = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    Muon([group([weight], lr=0.5, weight_decay=0.1)], torch.float32).step()
    expected = []
    for value in (3.0 / 5.0, 4.0 / 5.0):  # momentum only scales, and the norm takes it out
        for _ in range(5):
            value = 3.4445 * value - 4.7750 * value**3 + 2.0315 * value**5
        expected.append(1.0 * (1 - 0.5 * 0.1) - 0.5 * value)
    assert weight.detach().diagonal().tolist() == pytest.approx(expected, rel=1e-5)
    assert weight[0, 1] == weight[1, 0] == 0


def test_momentum_by_hand() -> None:
    """Two steps with mu = 0.5: B = .5 B + .5 G, U = .5 B + .5 G."""
    weight = nn.Parameter(torch.zeros(2, 2))
    optimizer = Muon([group([weight], momentum=0.5, weight_decay=0.0, lr=1.0)], torch.float32)
    torch.manual_seed(2)
    gradients = [torch.randn(2, 2), torch.randn(2, 2)]
    expected, average = torch.zeros(2, 2), torch.zeros(2, 2)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        average = 0.5 * average + 0.5 * gradient
        expected -= newton_schulz((0.5 * average + 0.5 * gradient)[None])[0]
    torch.testing.assert_close(weight.detach(), expected)


@pytest.mark.parametrize("shape", [(2, 6, 6), (3, 5, 9), (2, 5, 10), (1, 7, 31)])
@pytest.mark.parametrize("rank", [2, 5])
def test_wide_matrices_take_a_shorter_way_to_the_same_result(
    shape: tuple[int, int, int], rank: int
) -> None:
    """The published iteration in float64, on matrices of full and of low rank."""
    torch.manual_seed(5)
    count, rows, columns = shape
    x = torch.randn(count, rows, rank) @ torch.randn(count, rank, columns)
    expected = x.double() / x.double().norm(dim=(1, 2), keepdim=True)
    for _ in range(5):
        gram = expected @ expected.mT
        expected = 3.4445 * expected + (-4.7750 * gram + 2.0315 * gram @ gram) @ expected
    torch.testing.assert_close(newton_schulz(x).double(), expected, atol=5e-4, rtol=0)


def test_newton_schulz_keeps_singular_vectors_and_evens_out_values() -> None:
    torch.manual_seed(3)
    matrices = torch.randn(3, 20, 50, dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = left.mT @ newton_schulz(matrices) @ right.mT
    values = inner.diagonal(dim1=1, dim2=2)
    assert 0.65 < values.min() and values.max() < 1.25
    torch.testing.assert_close(inner, torch.diag_embed(values), atol=1e-9, rtol=0)


def test_conv1d_is_trained_as_the_linear_layer_that_it_is() -> None:
    """(in, out) = (4, 12) as three (4, 4), and (4, 16) scaled by fan_out / fan_in = 4."""
    torch.manual_seed(4)
    attention, wide = torch.randn(4, 12), torch.randn(4, 16)
    fused, mlp = nn.Parameter(torch.zeros(4, 12)), nn.Parameter(torch.zeros(4, 16))
    linears = [nn.Parameter(torch.zeros(4, 4)) for _ in range(3)]
    linears.append(nn.Parameter(torch.zeros(16, 4)))
    fused.grad, mlp.grad = attention, wide
    for linear, gradient in zip(linears, [*attention.chunk(3, 1), wide], strict=True):
        linear.grad = gradient.T.clone()
    Muon([group([fused, mlp], parts=[3, 1], transposed=[True, True])], torch.float32).step()
    # Linear layers are held equal to torch's own Muon above.
    Muon([group(linears)], torch.float32).step()
    side_by_side = torch.cat([linear.T for linear in linears[:3]], 1)
    torch.testing.assert_close(fused.detach(), side_by_side, atol=1e-5, rtol=0)
    torch.testing.assert_close(mlp.detach(), linears[3].detach().T, atol=1e-5, rtol=0)
    exact = newton_schulz(wide[None])[0] * -0.02 * math.sqrt(16 / 4)
    torch.testing.assert_close(mlp.detach(), exact, atol=1e-6, rtol=0)


def test_gpt2_has_muon_for_hidden_matrices_only() -> None:
    model = tiny_gpt2()
    found = hidden_matrices(model)
    kinds = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert set(found) == {f"transformer.h.{i}.{k}.weight" for i in range(2) for k in kinds}
    assert {name.split(".")[-2]: parts for name, (_, parts, _) in found.items()} == {
        "c_attn": 3,
        "c_proj": 1,
        "c_fc": 1,
    }
    assert all(transposed for _, _, transposed in found.values())


def test_an_untied_head_and_a_single_output_stay_with_adamw() -> None:
    shape = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 12}
    llama = LlamaForCausalLM(
        LlamaConfig(vocab_size=20, num_attention_heads=2, num_key_value_heads=2, **shape)
    )
    names = {name.split(".")[-2] for name in hidden_matrices(llama)}
    expected = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()
    assert names == set(expected)
    assert not hidden_matrices(nn.Sequential(nn.Linear(8, 1), nn.Embedding(4, 8)))


def test_the_rest_is_torch_adamw(tmp_path: object) -> None:
    model, twin = tiny_gpt2(), tiny_gpt2()
    args = Arguments(output_dir=str(tmp_path), learning_rate=3e-3, weight_decay=0.1, use_cpu=True)
    decayed = [name for name, p in model.named_parameters() if p.ndim == 2]
    optimizer = muon_for(model, args, MuonSettings(), decayed)
    rest = {name: p for name, p in twin.named_parameters() if name not in hidden_matrices(twin)}
    reference = torch.optim.AdamW(
        [
            {"params": [p for p in rest.values() if p.ndim == 2], "weight_decay": 0.1},
            {"params": [p for p in rest.values() if p.ndim != 2], "weight_decay": 0.0},
        ],
        lr=3e-3,
    )
    for step in range(3):
        torch.manual_seed(step)
        for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            ours.grad = torch.randn_like(ours)
            theirs.grad = ours.grad.clone()
        optimizer.step()
        reference.step()
    own = dict(model.named_parameters())
    for name, parameter in rest.items():
        torch.testing.assert_close(own[name], parameter, msg=lambda text, name=name: name + text)
    trained = {id(p) for entry in optimizer.param_groups for p in entry["params"]}
    assert trained == {id(p) for p in model.parameters()}


def test_the_schedule_scales_both_and_the_state_comes_back(tmp_path: object) -> None:
    model = tiny_gpt2()
    args = Arguments(output_dir=str(tmp_path), learning_rate=3e-3, use_cpu=True)
    optimizer = muon_for(model, args, MuonSettings(learning_rate=0.04), [])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    model(torch.ones(1, 8, dtype=torch.long), labels=torch.ones(1, 8, dtype=torch.long))[
        "loss"
    ].backward()
    optimizer.step()
    scheduler.step()
    assert [entry["lr"] for entry in optimizer.param_groups] == [1.5e-3, 0.02]
    torch.save(optimizer.state_dict(), f"{tmp_path}/optimizer.pt")
    again = muon_for(model, args, MuonSettings(), [])
    again.load_state_dict(torch.load(f"{tmp_path}/optimizer.pt", weights_only=True))
    weight = model.transformer.h[0].mlp.c_fc.weight
    assert torch.equal(
        again.state[weight]["momentum_buffer"], optimizer.state[weight]["momentum_buffer"]
    )
    assert again.param_groups[-1]["lr"] == 0.02
