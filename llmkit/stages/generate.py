"""`generate`: a model and prompts to completions, one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llmkit.errors import InputError, Problem
from llmkit.generation import generation_problems, without_room
from llmkit.schema import Passes, Refers
from llmkit.stage import Context, Facts, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NEW_TOKENS = 128  # where `generation` does not say
Prompt = str | list[dict[str, str]]  # a text to continue, or messages to answer


@dataclass(frozen=True, kw_only=True)
class Generate(Stage):
    """Complete `prompts` with `model`.

    Attributes:
        prompts: texts; or a file: JSON Lines with `prompt` (a text or messages) or `messages` in
            each row, or a text file with a prompt on each line.
        chat: whether a text is a user's message to be answered, rather than one to be continued.
            Left out: it is one where the model is a chat model, as its end of turn tells.
        generation: GenerationConfig; greedy and 128 new tokens where it does not say otherwise.
        num_samples: completions of each prompt; more than one only if `do_sample` is set.
    """

    makes: ClassVar[tuple[str, ...]] = ("conversations",)
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers")

    model: Annotated[str, Refers("model")]
    prompts: str | list[str]
    revision: str | None = None
    chat: bool | None = None
    generation: Annotated[dict[str, Any], Passes("transformers.GenerationConfig")] = field(
        default_factory=dict
    )
    num_samples: int = 1
    batch_size: int = 64

    def problems(self, upstream: Mapping[str, Facts]) -> Iterator[Problem]:
        if not self.prompts:
            yield Problem(("prompts",), "is empty", "give at least one prompt")
        if self.num_samples < 1:
            yield Problem(("num_samples",), f"{self.num_samples} is not positive")
        if self.num_samples > 1 and not self.generation.get("do_sample"):
            remedy = "set generation.do_sample: true"
            yield Problem(("num_samples",), "greedy completions would all be the same", remedy)
        if self.batch_size < 1:
            yield Problem(("batch_size",), f"{self.batch_size} is not positive")
        yield from generation_problems(self.generation)
        context = upstream.get(self.model, Facts()).context_length
        if what := without_room(self.model, self._generation()["max_new_tokens"] or 0, context):
            key = ("max_new_tokens",) if "max_new_tokens" in self.generation else ()
            yield Problem(("generation", *key), what, "set generation.max_new_tokens lower")
        if self.chat and upstream.get(self.model, Facts()).chat_template is False:
            remedy = "take a chat model, or leave chat out"
            yield Problem(("chat",), f"the tokenizer of {self.model} has no template", remedy)

    def _generation(self) -> dict[str, Any]:
        return {"max_new_tokens": NEW_TOKENS} | self.generation

    def files(self) -> Iterator[Path]:
        if isinstance(self.prompts, str):
            yield Path(self.prompts).expanduser()

    def run(self, context: Context) -> dict[str, Any]:
        """Write `completions.jsonl`: {prompt, completion, ended, tokens, sample} a row."""
        import json

        from llmkit.decode import complete
        from llmkit.device import tune_allocator
        from llmkit.model import is_chat_model, load_for_inference, load_tokenizer

        tune_allocator()
        source = context.inputs[self.model]
        tokenizer = load_tokenizer(source, self.revision)
        model = load_for_inference(source, self.revision)
        chat = self.chat if self.chat is not None else is_chat_model(model, tokenizer)
        asked = [as_chat(prompt) if chat else prompt for prompt in self._prompts()]
        ids = [encoded(tokenizer, prompt) for prompt in asked for _ in range(self.num_samples)]
        size, seed = self.batch_size, context.seed
        found = complete(model, tokenizer, ids, self._generation(), size, seed, context.name)
        ended_in_all = 0
        with (context.out / "completions.jsonl").open("w", encoding="utf-8") as file:
            for number, (tokens, ended) in enumerate(found):
                at, sample = divmod(number, self.num_samples)
                text = tokenizer.decode(tokens, skip_special_tokens=True)
                row = {"prompt": asked[at], "completion": text, "ended": ended}
                row |= {"tokens": len(tokens), "sample": sample}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                ended_in_all += ended
        tokens_in_all = sum(len(tokens) for tokens, _ in found)
        return {
            "completions": len(found),
            "tokens": tokens_in_all,
            "ended": ended_in_all / len(found),
        }

    def _prompts(self) -> list[Prompt]:
        if not isinstance(self.prompts, str):
            return list(self.prompts)
        file = Path(self.prompts).expanduser()
        found = list(prompts_of(file))
        if not found:
            raise InputError(str(file), "holds no prompt", "write one a line")
        return found


def prompts_of(file: Path) -> Iterator[Prompt]:
    """The prompts of a JSON Lines or text file.

    Raises:
        InputError: it is missing or not text, or a row holds no prompt.
    """
    from llmkit.data.chat.chat_rows import checked
    from llmkit.data.sources.readers import json_rows

    if file.suffix not in (".jsonl", ".ndjson"):
        yield from lines_of(file)
        return
    for number, row in json_rows(file):
        where = f"{file}:{number}"
        if isinstance(row, str):
            raise InputError(where, row, "write a JSON object with `prompt` on each line")
        prompt = row.get("prompt", row.get("messages"))
        if isinstance(prompt, str) and prompt:
            yield prompt
            continue
        if not isinstance(prompt, list):
            there = ", ".join(map(str, row)) or "none"
            remedy = "give each row `prompt` or `messages`"
            raise InputError(where, f"no prompt in it (columns: {there})", remedy)
        try:
            yield checked(prompt, answered=False)
        except ValueError as error:
            raise InputError(where, str(error), "mend the row") from error


def lines_of(file: Path) -> Iterator[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(str(file), f"cannot be read as text: {error}", "check it") from error
    yield from (line for line in text.splitlines() if line.strip())


def as_chat(prompt: Prompt) -> Prompt:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def encoded(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> list[int]:
    from llmkit.decode import prompt_ids
    from llmkit.model import conversation_ids

    if isinstance(prompt, str):
        return prompt_ids(tokenizer, prompt)
    return conversation_ids(tokenizer, prompt, add_generation_prompt=True)[0]
