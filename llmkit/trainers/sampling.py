"""What a model says while it is trained: the same prompts, continued every so many steps.

The figures of a training tell that it goes well; these tell what that means. Drawing them leaves
the training's own random numbers alone, so a training with samples ends in the same bytes as one
without.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import (
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from llmkit.errors import UserError
from llmkit.model import context_length
from llmkit.stage import Context
from llmkit.trainers.pretrain_settings import Samples

NEW_TOKENS = 64  # where `generation` does not say


class TakeSamples(TrainerCallback):
    """Continues the prompts after every `every` steps and after the last one.

    Args:
        samples: of the recipe.
        tokenizer: of the model.
        context: tokens that the model can look at.
        file: gets a JSON object for each completion: step, prompt, completion.
        seed: of the draws, the same at every look.
        where: the recipe path that an error names.

    Raises:
        UserError: a prompt leaves no room for the new tokens.
    """

    def __init__(
        self,
        samples: Samples,
        tokenizer: PreTrainedTokenizerFast,
        context: int,
        file: Path,
        seed: int,
        where: str,
    ) -> None:
        from llmkit.decode import prompt_ids

        self.samples, self.tokenizer, self.file, self.seed = samples, tokenizer, file, seed
        self.generation = {"max_new_tokens": NEW_TOKENS} | samples.generation
        if context < 2 * NEW_TOKENS:  # a toy's context is for a toy's samples
            self.generation = {"max_new_tokens": context // 2} | samples.generation
        self.prompts = [prompt_ids(tokenizer, prompt) for prompt in samples.prompts]
        room = context - int(self.generation["max_new_tokens"])
        for number, ids in enumerate(self.prompts):
            if not ids or len(ids) > room:
                what = f"has {len(ids)} tokens, and there is room for 1 to {room}"
                remedy = "change it, or generation.max_new_tokens"
                raise UserError(f"{where}.prompts[{number}]", what, remedy)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        step = state.global_step
        if step % self.samples.every and step != state.max_steps:
            return
        said = self.completions(model)  # on every rank: sharded weights are gathered together
        if state.is_world_process_zero:
            with self.file.open("a", encoding="utf-8") as file:
                for prompt, completion in zip(self.samples.prompts, said, strict=True):
                    row = {"step": step, "prompt": prompt, "completion": completion}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def completions(self, model: Any) -> list[str]:
        from llmkit.decode import complete

        found = complete(
            model,
            self.tokenizer,
            self.prompts,
            self.generation,
            batch_size=len(self.prompts),
            seed=self.seed,
            label="samples",
        )
        return [self.tokenizer.decode(ids, skip_special_tokens=True) for ids, _ in found]


def taken(
    samples: Samples, context: Context, model: Any, tokenizer: PreTrainedTokenizerFast
) -> TakeSamples:
    """The samples of a stage, into its logs."""
    file = context.logs / "samples.jsonl"
    where = f"{context.name}.samples"
    return TakeSamples(samples, tokenizer, context_length(model), file, context.seed, where)
