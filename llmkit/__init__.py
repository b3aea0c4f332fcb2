"""llmkit: from raw web pages to a chat assistant, in Hugging Face pieces.

`import llmkit` imports nothing else; each name below is looked up when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmkit.ladder import run as run
    from llmkit.patch import patched as patched
    from llmkit.recipe import Recipe as Recipe
    from llmkit.trainers.ppo import PPOTrainer as PPOTrainer
    from llmkit.trainers.ppo_config import PPOConfig as PPOConfig

__version__ = "0.1.0"
__all__ = ["PPOConfig", "PPOTrainer", "Recipe", "patched", "run"]

EXPORTS = {
    "run": "llmkit.ladder:run",
    "Recipe": "llmkit.recipe:Recipe",
    "patched": "llmkit.patch:patched",
    "PPOTrainer": "llmkit.trainers.ppo:PPOTrainer",
    "PPOConfig": "llmkit.trainers.ppo_config:PPOConfig",
}


def __getattr__(name: str) -> Any:
    if name not in EXPORTS:
        raise AttributeError(f"module 'llmkit' has no attribute {name!r}")
    module, _, attribute = EXPORTS[name].partition(":")
    return getattr(import_module(module), attribute)
