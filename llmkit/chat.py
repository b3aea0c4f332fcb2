"""Talking with a model in the terminal, on transformers' `generate`, word by word.

With a terminal: `/reset` forgets the conversation, `/quit` or Ctrl-D ends, Ctrl-C stops an answer.
Without one (a pipe), every line of the input is a message, and the answers alone are printed.
Source: https://huggingface.co/docs/transformers/internal/generation_utils#transformers.TextStreamer
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TextStreamer

from llmkit.decode import all_tokens_given, generation_config
from llmkit.errors import InputError
from llmkit.model import (
    context_length,
    conversation_ids,
    is_chat_model,
    load_for_inference,
    load_tokenizer,
)

Messages = list[dict[str, str]]

HELP = "/reset forgets the conversation, /quit or Ctrl-D ends, Ctrl-C stops an answer"
UNTAUGHT = "this model was not fine-tuned on conversations: its answers may make no sense, nor end"


def chat(
    model: Path | str,
    *,
    temperature: float = 0.0,
    max_new_tokens: int = 128,
    seed: int = 0,
    system: str | None = None,
    revision: str | None = None,
) -> None:
    """Talk until the input ends.

    Args:
        model: a model folder or a Hub id, whose tokenizer has a chat template.
        temperature: of the sampling; 0 takes the likeliest token each time.
        max_new_tokens: that an answer may have.
        seed: of the sampling.
        system: a system message, kept before the conversation.

    Raises:
        InputError: there is no such model, it has no chat template, or the system message leaves
            no room in its context.
    """
    talk = Talk(model, temperature, max_new_tokens, system, revision)
    torch.manual_seed(seed)
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # no tokenizer takes bytes that are no UTF-8
    on_terminal = sys.stdin.isatty()
    if on_terminal:
        print(HELP + "\n" * talk.taught + f"\n{UNTAUGHT}" * (not talk.taught), file=sys.stderr)
    elif not talk.taught:
        print(UNTAUGHT, file=sys.stderr)
    for line in typed() if on_terminal else piped(sys.stdin):
        if line == "/quit":
            break
        if line == "/reset":
            talk.reset()
        elif line:
            talk.say(line, sys.stdout)


class Talk:
    """A conversation with a model: what was said so far, cut to what the model's context holds."""

    def __init__(
        self,
        source: Path | str,
        temperature: float = 0.0,
        max_new_tokens: int = 128,
        system: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.tokenizer: PreTrainedTokenizerFast = load_tokenizer(source, revision)
        self.model: PreTrainedModel = load_for_inference(source, revision)
        self.taught = is_chat_model(self.model, self.tokenizer)
        self.system: Messages = [{"role": "system", "content": system}] if system else []
        self.messages: Messages = []
        context = context_length(self.model)
        # An answer may take its full length where the context is wide enough, or else half of it.
        self.budget = min(max_new_tokens, context // 2)
        self.max_new_tokens, self.context = max_new_tokens, context
        self.sampling: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            self.sampling = {"do_sample": True, "temperature": temperature}
        if len(self.ids([{"role": "user", "content": "?"}])) > context - self.budget:
            what = f"leaves no room in the context of {context} tokens"
            raise InputError("system message", what, "shorten it")

    def reset(self) -> None:
        """Forget everything but the system message."""
        self.messages = []

    def say(self, text: str, out: TextIO) -> str:
        """Answer `text`, writing to `out` as the words come. Ctrl-C keeps what came until then."""
        self.messages.append({"role": "user", "content": text})
        ids = self.fitting_ids()
        if ids is None:
            self.messages.pop()
            print(f"(too long for the model's context of {self.context} tokens)", file=sys.stderr)
            return ""
        voice = Voice(self.tokenizer, out)
        room = min(self.max_new_tokens, self.context - len(ids))
        settings = self.sampling | {"max_new_tokens": room}
        prompt = torch.tensor([ids], device=self.model.device)
        try:
            with torch.inference_mode(), all_tokens_given(self.model):
                self.model.generate(
                    input_ids=prompt,
                    attention_mask=torch.ones_like(prompt),
                    generation_config=generation_config(self.model, self.tokenizer, settings),
                    streamer=voice,
                )
        except KeyboardInterrupt:
            voice.end()
        answer = "".join(voice.heard)
        if answer.strip():
            self.messages.append({"role": "assistant", "content": answer})
        else:
            self.messages.pop()  # an unanswered question would break the turns
        return answer

    def fitting_ids(self) -> list[int] | None:
        """The conversation, its oldest turns forgotten until it fits; None if that cannot be."""
        while True:
            ids = self.ids(self.messages)
            if len(ids) <= self.context - self.budget:
                return ids
            if len(self.messages) == 1:
                return None
            del self.messages[:2]

    def ids(self, messages: Sequence[dict[str, str]]) -> list[int]:
        return conversation_ids(self.tokenizer, [*self.system, *messages], True)[0]


class Voice(TextStreamer):
    """Writes whole words as they are generated, and keeps them; control characters left out."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, out: TextIO) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.out = out
        self.heard: list[str] = []

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        # An escape sequence that a model was taught to write must not steer the terminal.
        clean = "".join(c for c in text if c.isprintable() or c in "\n\t")
        self.heard.append(clean)
        self.out.write(clean + "\n" * stream_end)
        self.out.flush()


def typed() -> Iterator[str]:
    """Lines from a terminal, with editing and history where Python has readline."""
    try:
        import readline  # noqa: F401 - `input` uses it once it is imported
    except ImportError:
        pass
    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print(f"\n{HELP}", file=sys.stderr)


def piped(lines: TextIO) -> Iterator[str]:
    for line in lines:
        yield line.strip()
