"""attention: no mask where none is needed, eager and compiled; every other batch as in stock."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from llmkit.errors import UserError
from llmkit.patch import patched

GPT2 = GPT2Config(
    vocab_size=131, n_positions=24, n_embd=20, n_layer=2, n_head=2, resid_pdrop=0.0,
    embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
)  # fmt: skip
SIZES: dict[str, Any] = {
    "vocab_size": 131, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 24,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None,
}  # fmt: skip
CONFIGS = [
    GPT2,
    LlamaConfig(**SIZES),
    MistralConfig(**SIZES, sliding_window=None),
    Qwen2Config(**SIZES),
    Qwen3Config(**SIZES, head_dim=8),
]


def _model(config: PreTrainedConfig = GPT2) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


def _ids() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randint(131, (3, 17))


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, bool]]:
    """(mask, is_causal) of every attention that is computed."""
    seen: list[tuple[Any, bool]] = []
    compute = functional.scaled_dot_product_attention

    def spy(*args: Any, attn_mask: Any = None, is_causal: bool = False, **kwargs: Any) -> Any:
        seen.append((None if attn_mask is None else tuple(attn_mask.shape), is_causal))
        return compute(*args, attn_mask=attn_mask, is_causal=is_causal, **kwargs)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", spy)
    return seen


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_an_unpadded_batch_needs_no_mask_and_gives_stock_logits(
    config: PreTrainedConfig, masks: list[tuple[Any, bool]]
) -> None:
    model, ids = _model(config), _ids()
    stock = model(ids).logits
    masks.clear()
    with patched(model, ["attention"]):
        logits = model(ids).logits
    assert masks == [(None, True)] * 2
    torch.testing.assert_close(logits, stock)


def test_a_traced_model_keeps_the_flash_path_that_stock_loses() -> None:
    """By the graph that Dynamo takes, which needs no compiler."""
    ids = _ids()

    def masks_in_graph(model: Any) -> list[Any]:
        torch._dynamo.reset()
        found: list[Any] = []

        def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
            for node in graph.graph.nodes:
                if node.target is functional.scaled_dot_product_attention:
                    found.append(node.kwargs.get("attn_mask"))
            return graph.forward

        torch.compile(model, backend=backend)(ids, use_cache=False)
        return found

    model = _model()
    stock = masks_in_graph(model)
    with patched(model, ["attention"]):
        ours = masks_in_graph(model)
    torch._dynamo.reset()
    assert len(stock) == len(ours) == 2
    assert all(mask is not None for mask in stock), "stock needs no patch any more under compile"
    assert ours == [None, None]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_logits_equal_stock(config: PreTrainedConfig, side: str) -> None:
    model, ids = _model(config), _ids()
    mask = torch.ones_like(ids)
    mask[1, slice(0, 6) if side == "left" else slice(11, 17)] = 0
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    for extra in ({}, {"position_ids": positions}):
        stock = model(ids, attention_mask=mask, **extra).logits
        with patched(model, ["attention"]):
            logits = model(ids, attention_mask=mask, **extra).logits
        assert torch.equal(logits, stock)
    if side == "left":  # on the right, causality alone hides the padding
        assert not torch.allclose(model(ids).logits[mask == 1], stock[mask == 1]), "an idle mask"


def test_documents_packed_by_positions_stay_apart() -> None:
    model, ids = _model(), _ids()
    positions = torch.cat([torch.arange(7), torch.arange(10)]).expand(3, -1)
    stock = model(ids, position_ids=positions, use_cache=False).logits
    alone = model(ids[:, 7:]).logits
    with patched(model, ["attention"]):
        packed = model(ids, position_ids=positions, use_cache=False).logits
    assert torch.equal(packed, stock)
    torch.testing.assert_close(packed[:, 7:], alone)


def test_gradients_equal_stock_with_checkpointing_too() -> None:
    model, ids = _model().train(), _ids()

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(ids, labels=ids).loss.backward()
        return [p.grad.clone() for p in model.parameters()]

    stock = gradients()
    with patched(model, ["attention"]):
        torch.testing.assert_close(gradients(), stock)
        # Its name since transformers 5.24 and before.
        old = model.gradient_checkpointing_enable
        getattr(model, "activation_checkpointing_enable", old)()
        torch.testing.assert_close(gradients(), stock)


def test_generation_from_left_padded_prompts_equals_stock() -> None:
    model, ids = _model(), _ids()
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    asked = {"attention_mask": mask, "max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    stock = model.generate(ids, **asked)
    with patched(model, ["attention"]):
        assert torch.equal(model.generate(ids, **asked), stock)


def test_the_configuration_is_lent_and_given_back_after_an_error() -> None:
    model = _model()
    with pytest.raises(RuntimeError, match="inside"), patched(model, ["attention"]):
        assert model.config._attn_implementation == "llmkit_causal"
        with patched(model, ["attention"]):
            pass
        assert model.config._attn_implementation == "llmkit_causal"
        raise RuntimeError("inside")
    assert model.config._attn_implementation == "sdpa"
    assert "forward" not in vars(model.transformer)


def test_an_implementation_chosen_meanwhile_gets_its_own_mask() -> None:
    model, ids = _model(), torch.arange(12).reshape(2, 6)
    stock = model(input_ids=ids).logits
    with patched(model, ["attention"]):
        model.set_attn_implementation("eager")
        torch.testing.assert_close(model(input_ids=ids).logits, stock)


def test_what_is_no_whole_causal_attention_is_refused() -> None:
    def refuses(config: PreTrainedConfig, message: str, attention: str = "sdpa") -> None:
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        with pytest.raises(UserError, match=message), patched(model, ["attention"]):
            pass

    refuses(GPT2, "attends by 'eager'", "eager")
    refuses(MistralConfig(**SIZES, sliding_window=8), "a window only")
    sliding = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    refuses(Qwen2Config(**SIZES, **sliding), "a window only")
    with pytest.raises(UserError, match="not one"), patched(torch.nn.Linear(2, 2), ["attention"]):
        pass
