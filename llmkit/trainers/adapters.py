"""`peft:` of a recipe: the LoraConfig, and the adapter alone beside the merged model."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import LoraConfig
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from llmkit.errors import UserError


def lora_config(
    given: Mapping[str, Any] | None,
    stage: str,
    task_type: str,
    model: PreTrainedModel | None = None,
) -> LoraConfig | None:
    """The LoraConfig of `peft:`, or None. GPT-2's layers hold their weights transposed.

    Raises:
        UserError: peft refuses it; `stage` is the stage's name, for the error to begin with.
    """
    if given is None:
        return None
    own: dict[str, Any] = {"task_type": task_type}
    if model is not None and any(isinstance(module, Conv1D) for module in model.modules()):
        own["fan_in_fan_out"] = True
    try:
        return LoraConfig(**(own | dict(given)))
    except (ValueError, TypeError) as error:
        what = f"LoraConfig refuses it: {' '.join(str(error).split())}"
        raise UserError(f"{stage}.peft", what, "change these keys") from error


def merged(trainer: Any, folder: Path, base: str) -> None:
    """Save the trainer's adapter to `folder`, and leave its model merged with it."""
    if trainer.args.should_save:
        save_adapter(trainer.model, folder, base)
    trainer.model = trainer.model.merge_and_unload()


def save_adapter(model: Any, folder: Path, base: str) -> None:
    """The adapter alone, naming its base as the recipe does: peft writes an absolute path."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def old_name_allowed() -> Iterator[None]:
    """peft and TRL read an attribute by the name that transformers 5.23 has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield
