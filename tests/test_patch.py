"""patched(): the same numbers, the same signature, and every forward given back."""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from transformers import DynamicCache, GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

from llmkit.errors import UserError
from llmkit.patch import PATCHES, automatic_patches, check_names, choose, patched

# Error norm over truth norm of loss and of any parameter's gradient, in float32.
TOLERANCES = {name: 1e-5 for name in PATCHES}


def _model(seed: int = 0, **changes: Any) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=131, n_positions=24, n_embd=20, n_layer=2, n_head=2, bos_token_id=0,
        eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **changes,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def _batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    input_ids = torch.randint(131, (3, 17))
    labels = input_ids.clone()
    labels[0, :5] = -100
    return {"input_ids": input_ids, "labels": labels}


def _gradients(model: GPT2LMHeadModel, **kwargs: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss = model(**_batch(), **kwargs).loss
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients}


def _bound(model: torch.nn.Module) -> list[tuple[str, list[str]]]:
    return [(name, list(vars(module))) for name, module in model.named_modules()]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("num_items", [None, 31])
@pytest.mark.parametrize("name", PATCHES)
def test_loss_and_every_gradient_equal_stock(name: str, num_items: int | None, tied: bool) -> None:
    model = _model(tie_word_embeddings=tied)
    truth = _gradients(model.double(), num_items_in_batch=num_items)
    model.float()
    before = _bound(model)
    with patched(model, [name]):
        assert _bound(model) != before, "nothing was bound"
        found = _gradients(model, num_items_in_batch=num_items)
    assert _bound(model) == before
    assert found.keys() == truth.keys()
    for key, true in truth.items():
        error = (found[key].double() - true).norm() / true.norm()
        assert error < TOLERANCES[name], key


@pytest.mark.parametrize("name", PATCHES)
def test_signature_is_the_same(name: str) -> None:
    model = _model()
    before = _signatures(model)
    with patched(model, [name]):
        assert _signatures(model) == before


def _signatures(model: torch.nn.Module) -> dict[str, list[tuple[str, Any, Any]]]:
    """What the Trainer and `generate` look at: names, kinds and defaults."""
    return {
        key: [(p.name, p.kind, p.default) for p in inspect.signature(m.forward).parameters.values()]
        for key, m in model.named_modules()
    }


def test_calls_without_labels_are_stock() -> None:
    model = _model().eval()
    ids = _batch()["input_ids"]
    logits = model(ids).logits
    made = model.generate(ids[:1], max_new_tokens=3, do_sample=False, pad_token_id=0)
    with patched(model, ["fused_head_loss"]):
        assert torch.equal(model(ids).logits, logits)
        again = model.generate(ids[:1], max_new_tokens=3, do_sample=False, pad_token_id=0)
        assert torch.equal(again, made)
        output = model(ids, labels=ids, output_hidden_states=True)
        assert output.logits is None and len(output.hidden_states) == 3
        loss, *_ = model(ids, labels=ids, return_dict=False)
        assert torch.equal(loss, output.loss)


def test_with_labels_every_other_output_is_stock_by_its_present_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """transformers tells of an old name (`past_key_values` for `cache`) in the log."""
    told: list[str] = []
    monkeypatch.setattr(logging.Logger, "warning_once", lambda self, text, *_: told.append(text))
    model, ids = _model().eval(), _batch()["input_ids"]
    wanted = {"labels": ids, "output_hidden_states": True, "use_cache": True}
    stock = model(ids, **wanted)
    with patched(model, ["fused_head_loss"]):
        output = model(ids, **wanted)
    assert [text for text in told if "deprecated" in text] == []
    assert list(output) == [name for name in stock if name != "logits"]
    assert isinstance(output[1], DynamicCache) and output[1].get_seq_length() == ids.shape[1]
    for found, true in zip(output.hidden_states, stock.hidden_states, strict=True):
        assert torch.equal(found, true)


def test_left_padding_is_masked_as_in_stock() -> None:
    model, batch = _model(), _batch()
    mask = torch.ones_like(batch["input_ids"])
    mask[0, :5] = 0
    stock = model(**batch, attention_mask=mask).loss
    with patched(model, list(PATCHES)):
        torch.testing.assert_close(model(**batch, attention_mask=mask).loss, stock)
        assert abs(model(**batch).loss - stock) > 1e-4, "the mask makes no difference here"


def test_shift_labels_and_ignore_index_are_those_of_stock() -> None:
    model, ids = _model(), _batch()["input_ids"]
    for extra in ({"shift_labels": ids.flip(1)}, {"ignore_index": int(ids[0, 3])}):
        stock = model(ids, labels=ids, **extra).loss
        with patched(model, ["fused_head_loss"]):
            torch.testing.assert_close(model(ids, labels=ids, **extra).loss, stock)


def test_forward_returns_after_an_error_and_nests() -> None:
    model = _model()
    before = _bound(model)
    with pytest.raises(RuntimeError, match="inside"), patched(model, ["gelu"]):
        with patched(model, ["gelu", "fused_head_loss"]):
            pass
        assert "forward" in vars(model.transformer.h[0].mlp.act)
        raise RuntimeError("inside")
    assert _bound(model) == before


def test_a_forward_that_stood_there_before_is_called_and_returned() -> None:
    model = _model()
    calls = []
    stock = model.forward

    def foreign(self: GPT2LMHeadModel, *args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs.pop("fused_lm_head", None))
        return stock(*args, **kwargs)

    model.forward = MethodType(foreign, model)
    bound = model.forward
    with patched(model, ["fused_head_loss"]):
        model(**_batch())
        assert calls == []  # the loss is ours
        model(**_batch(), fused_lm_head=True)
        assert calls == [True]  # TRL's own call reaches TRL's own head
    assert vars(model)["forward"] is bound


def test_a_copy_made_meanwhile_computes_with_its_own_weights() -> None:
    model, ids = _model().eval(), _batch()["input_ids"]
    with patched(model, list(PATCHES)):
        copy = deepcopy(model)
        with torch.no_grad():
            copy.transformer.h[0].mlp.c_fc.weight.mul_(3)
            copy.transformer.wpe.weight.mul_(2)
        copied = copy(ids).logits
    plain = _model().eval()
    plain.load_state_dict(copy.state_dict())
    torch.testing.assert_close(copied, plain(ids).logits)
    assert not torch.allclose(copied, model(ids).logits)


def test_a_forward_bound_meanwhile_does_not_stay() -> None:
    from trl.trainer.utils import add_fused_lm_head

    model = _model()
    before = _bound(model)
    with patched(model, ["fused_head_loss", "gelu"]):
        add_fused_lm_head(model)
        ours = model(**_batch()).loss  # through TRL's forward into ours
        theirs = model(**_batch(), fused_lm_head=True).loss
    assert _bound(model) == before
    torch.testing.assert_close(model(**_batch()).loss, ours)
    torch.testing.assert_close(theirs, ours)


def test_saved_folders_are_stock(tmp_path: Path) -> None:
    model = _model()
    model.save_pretrained(tmp_path / "stock")
    with patched(model, list(PATCHES)):
        model(**_batch()).loss.backward()
        model.save_pretrained(tmp_path / "patched")
    names = sorted(path.name for path in (tmp_path / "stock").iterdir())
    assert sorted(path.name for path in (tmp_path / "patched").iterdir()) == names
    for name in names:
        ours, stock = tmp_path / "patched" / name, tmp_path / "stock" / name
        assert ours.read_bytes() == stock.read_bytes(), name


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean fused_head_loss"):
        check_names(["gelu", "fused_headloss"])
    with pytest.raises(UserError, match="twice"):
        check_names(["gelu", "gelu"])
    with pytest.raises(UserError, match=r"write \[gelu\]"), patched(_model(), "gelu"):
        pass
    with pytest.raises(UserError, match="did you mean auto"):
        check_names("autos")


def test_what_does_not_fit_is_refused_before_anything_is_bound() -> None:
    model = _model(activation_function="gelu_pytorch_tanh")
    before = _bound(model)
    with pytest.raises(UserError, match="no tanh-form GELU"), patched(model, list(PATCHES)):
        pass
    assert _bound(model) == before
    classifier = GPT2ForSequenceClassification(_model().config)
    with pytest.raises(UserError, match="holds 0 causal models"):
        choose_and_enter(classifier, ["fused_head_loss"])
    model.loss_function = lambda logits, labels, vocab_size, **kwargs: logits.sum()
    with pytest.raises(UserError, match="loss function of its own"):
        choose_and_enter(model, ["fused_head_loss"])


@pytest.mark.parametrize(
    "register", ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"]
)
@pytest.mark.parametrize(
    ("name", "module"), [("fused_head_loss", "lm_head"), ("layer_norm", "transformer.h.0.ln_2")]
)
def test_what_another_library_listens_to_is_refused(register: str, name: str, module: str) -> None:
    model = _model()
    getattr(model.get_submodule(module), f"register_{register}")(lambda *args: None)
    with pytest.raises(UserError, match="hooked"):
        choose_and_enter(model, [name])


def test_a_norm_hooked_meanwhile_is_heard_and_computes_as_stock() -> None:
    model, calls = _model(), []
    stock = _gradients(model)
    with patched(model, ["layer_norm"]):
        norm = model.transformer.h[1].ln_1
        norm.register_forward_hook(lambda *args: calls.append("forward"))
        norm.register_full_backward_hook(lambda *args: calls.append("backward"))
        found = _gradients(model)
    assert calls == ["forward", "backward"]
    for key, value in stock.items():
        torch.testing.assert_close(found[key], value)


def test_names_that_are_no_list_and_models_without_weights() -> None:
    for names in (None, 5, {"gelu", "attention"}):
        with pytest.raises(UserError, match="neither auto, none nor a list of names"):
            choose_and_enter(_model(), names)  # type: ignore[arg-type]
    with patched(torch.nn.Identity(), "auto") as model:
        assert "forward" not in vars(model)


def choose_and_enter(model: torch.nn.Module, names: list[str]) -> None:
    with patched(model, names):
        pass


def test_a_head_replaced_meanwhile_is_refused_at_the_call() -> None:
    model = _model(tie_word_embeddings=False)
    with patched(model, ["fused_head_loss"]):
        model.lm_head = torch.nn.Linear(20, 131, bias=True)
        with pytest.raises(UserError, match="not a linear layer without bias"):
            model(**_batch())
        with pytest.raises(UserError, match="logits_to_keep"):
            model(**_batch(), logits_to_keep=1)


def test_auto_and_none() -> None:
    model = _model()
    assert choose(model, "none") == []
    assert set(automatic_patches(model)) <= set(PATCHES)
    assert "fused_head_loss" not in automatic_patches(model, own_loss=False)
    assert choose(model, ["fused_head_loss", "gelu"]) == ["gelu", "fused_head_loss"]
    other = _model(activation_function="gelu_pytorch_tanh")
    assert "gelu" in automatic_patches(model) and "gelu" not in automatic_patches(other)


def test_names_are_read_without_torch() -> None:
    code = "import sys, llmkit.patch as p; p.check_names(['gelu']); print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_trainer_in_bfloat16_trains_as_stock_and_leaves_a_model_that_works(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    rows = [{key: value[i] for key, value in _batch().items()} for i in range(3)]
    losses = []
    for names in ("none", list(PATCHES)):
        model = _model()
        args = TrainingArguments(
            tmp_path / "out", max_steps=3, bf16=True, use_cpu=True, save_strategy="no",
            per_device_train_batch_size=1, gradient_accumulation_steps=3, learning_rate=1e-2,
            report_to="none", disable_tqdm=True, logging_strategy="no", seed=0,
            dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Trainer(model, args, train_dataset=rows, eval_dataset=rows)
        with patched(model, names):
            trainer.train()
            evaluated = trainer.evaluate()["eval_loss"]
        trainer.save_model(str(tmp_path / "saved"))
        again = GPT2LMHeadModel.from_pretrained(tmp_path / "saved")
        loss = again.eval()(**_batch()).loss.item()
        assert model.eval()(**_batch()).loss.item() == pytest.approx(loss, abs=0.01)
        losses.append([evaluated, loss])
    assert losses[1] == pytest.approx(losses[0], abs=0.01)
    assert losses[0][1] < 4.8  # ln(131) = 4.875: it did learn
