"""Models and tokenizers in: loading with plain errors, and conversations to ids.

Source: the chat templates of transformers,
https://huggingface.co/docs/transformers/chat_templating
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as logging_of_transformers
from transformers.utils.chat_template_utils import render_jinja_template

from llmkit.errors import InputError

Message = Mapping[str, str]  # {"role": ..., "content": ...}


def load_model(source: Path | str, revision: str | None = None, **init: Any) -> PreTrainedModel:
    """A causal language model from a local folder or a Hub id, in evaluation mode.

    `init` goes to `from_pretrained` (`dtype`, `attn_implementation`, ...); float32 unless told.
    Raises InputError for a missing folder, one without a model, pickled or incomplete weights.
    """
    where = _local_folder(source)
    if where is not None:
        _check_weights(where)
    init = {"dtype": torch.float32, "trust_remote_code": False} | init
    try:
        with without_bars():
            model, loaded = AutoModelForCausalLM.from_pretrained(
                where or source,
                revision=revision or "main",
                use_safetensors=True,
                output_loading_info=True,
                **init,
            )
    except SafetensorError as error:
        raise InputError(
            str(source), f"its weights cannot be read ({error})", "copy or make the model again"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            str(source),
            f"cannot be loaded as a causal language model ({_first_line(error)})",
            "name an earlier stage, a model folder, or a Hub id",
        ) from error
    if loaded["missing_keys"]:
        names = ", ".join(sorted(loaded["missing_keys"])[:3])
        raise InputError(
            str(source),
            f"{len(loaded['missing_keys'])} weights are missing ({names}, ...)",
            "this is not a complete causal language model: give one that is",
        )
    model.eval()
    return model


def load_for_inference(source: Path | str, revision: str | None = None) -> PreTrainedModel:
    """As `load_model`, on the GPU where there is one, in the precision that it was saved in.

    On a CPU it is float32, which a CPU without products of its own in half precision is faster in.
    """
    if not torch.cuda.is_available():
        return load_model(source, revision)
    return load_model(source, revision, dtype="auto").to("cuda")


def load_tokenizer(source: Path | str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a local folder or a Hub id. Raises InputError if there is none."""
    where = _local_folder(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            where or source, revision=revision or "main", trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise InputError(
            str(source),
            f"holds no tokenizer that can be loaded ({_first_line(error)})",
            "a model folder must also hold tokenizer.json and tokenizer_config.json",
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InputError(
            str(source), "has no fast tokenizer (tokenizer.json)", "convert it with transformers"
        )
    return tokenizer


def context_length(model: PreTrainedModel) -> int:
    """How many tokens the model can look at, prompt and answer together."""
    config = model.config.get_text_config()
    return int(config.max_position_embeddings)


def stop_ids(model: PreTrainedModel) -> list[int]:
    """The tokens that end a generation, as the model's generation_config says."""
    ids = model.generation_config.eos_token_id
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)


def is_chat_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the model was taught to end a turn: it stops at what its template closes one with."""
    if tokenizer.chat_template is None:
        return False
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    ids, _ = conversation_ids(tokenizer, turn)
    special = [token for token in ids if token in tokenizer.all_special_ids]
    return bool(special) and special[-1] in stop_ids(model)


@contextmanager
def without_bars() -> Iterator[None]:
    """Hugging Face's own bars off: reading or writing a small model would draw them."""
    shown = logging_of_transformers.is_progress_bar_enabled()
    logging_of_transformers.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging_of_transformers.enable_progress_bar()


def _local_folder(source: Path | str) -> Path | None:
    """The folder that `source` names, or None for a Hub id (`name` or `owner/name`)."""
    path = Path(source).expanduser()
    is_hub_id = isinstance(source, str) and re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", source)
    if path.is_dir():
        return path
    if is_hub_id and not path.exists():
        return None
    what = "is a file, not a model folder" if path.exists() else "there is no such folder"
    raise InputError(str(source), what, "name an earlier stage, a model folder, or a Hub id")


def _check_weights(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(
            str(folder),
            "holds no config.json, so it is no model folder",
            "name the folder that save_pretrained wrote",
        )
    pickles = [*folder.glob("pytorch_model*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
    if pickles and not list(folder.glob("*.safetensors")):
        raise InputError(
            str(folder),
            f"holds its weights as a pickle only ({pickles[0].name}), which can run code",
            "convert them to model.safetensors with save_pretrained on a machine that trusts them",
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


# Conversations -------------------------------------------------------------------------------


def conversation_ids(
    tokenizer: PreTrainedTokenizerFast,
    messages: Sequence[Message],
    add_generation_prompt: bool = False,
) -> tuple[list[int], list[int]]:
    """Ids of one conversation by the tokenizer's chat template, and 1 where the assistant speaks.

    The same as `apply_chat_template(..., return_assistant_tokens_mask=True)`, except that a
    special token's string inside a message's content (`<|end|>` typed by a user) stays text.
    Raises InputError when the tokenizer has no chat template.
    """
    return encode_conversations(tokenizer, [messages], add_generation_prompt)[0]


def encode_conversations(
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Sequence[Message]],
    add_generation_prompt: bool = False,
    template: str | None = None,
) -> list[tuple[list[int], list[int]]]:
    """`conversation_ids` of many conversations, by the tokenizer's own `template` unless told."""
    if template is None and tokenizer.chat_template is None:
        raise InputError(
            tokenizer.name_or_path or "tokenizer",
            "has no chat template",
            "add one (chat_template.jinja), or take a tokenizer that the tokenizer stage made",
        )
    special = _special_pattern(tokenizer)
    marker = _unused_character(conversations)
    marked = [[_mark(message, special, marker) for message in chat] for chat in conversations]
    template = template or tokenizer.get_chat_template()
    texts, spans = render_jinja_template(
        marked,
        chat_template=template,
        return_assistant_tokens_mask=marks_generation(template),
        add_generation_prompt=add_generation_prompt,
        **tokenizer.special_tokens_map,
    )
    spans = spans or [[]] * len(texts)
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = False
    plain = [index for index, text in enumerate(texts) if marker not in text]
    encodings = backend.encode_batch([texts[index] for index in plain], add_special_tokens=False)
    rows: list[tuple[list[int], list[int]]] = [([], [])] * len(texts)
    for index, encoding in zip(plain, encodings, strict=True):
        rows[index] = (encoding.ids, _mask_of(encoding, spans[index]))
    for index, text in enumerate(texts):
        if marker in text:
            rows[index] = _encode_marked(backend, text, spans[index], special, marker)
    return rows


def marks_generation(template: str | None) -> bool:
    """Whether a chat template says which of its text the assistant speaks."""
    return bool(template and re.search(r"\{%-?\s*generation\s*-?%\}", template))


def _special_pattern(tokenizer: PreTrainedTokenizerFast) -> re.Pattern[str]:
    """Matches every special token's string, the longest first."""
    added = tokenizer.added_tokens_decoder.values()
    strings = sorted((t.content for t in added if t.special), key=lambda s: (-len(s), s))
    return re.compile("|".join(map(re.escape, strings)) or r"(?!)")


def _unused_character(conversations: Sequence[Sequence[Message]]) -> str:
    """A private-use character that no message holds, so that a mark cannot be forged."""
    used = set().union(*(m["content"] for chat in conversations for m in chat))
    return next(c for c in map(chr, range(0xE000, 0xF900)) if c not in used)


def _mark(message: Message, special: re.Pattern[str], marker: str) -> dict[str, str]:
    """Break each special string of the content by a mark behind its first character."""
    content = special.sub(lambda match: match[0][0] + marker + match[0][1:], message["content"])
    return {**message, "content": content}


def _mask_of(encoding: Any, spans: Sequence[tuple[int, int]]) -> list[int]:
    """1 for the tokens that hold a character of one of the `spans` (characters, end exclusive)."""
    mask = [0] * len(encoding.ids)
    for start, end in spans:
        first, last = encoding.char_to_token(start), encoding.char_to_token(end - 1)
        if start == end or first is None or last is None:
            continue
        # The last character may be spread over several byte-level tokens.
        while last + 1 < len(mask) and encoding.token_to_chars(last + 1)[0] < end:
            last += 1
        mask[first : last + 1] = [1] * (last + 1 - first)
    return mask


def _encode_marked(
    backend: Any,
    text: str,
    spans: Sequence[tuple[int, int]],
    special: re.Pattern[str],
    marker: str,
) -> tuple[list[int], list[int]]:
    """Encode a rendered chat whose typed specials are marked: they stay text, others do not."""

    def encode(piece: str, start: int) -> None:
        """Add the ids of `piece`, which begins at character `start` of `text`."""
        marks = [i for i, c in enumerate(piece) if c == marker]
        clean = [
            (
                a - start - sum(m < a - start for m in marks),
                b - start - sum(m < b - start for m in marks),
            )
            for a, b in spans
        ]
        encoding = backend.encode(piece.replace(marker, ""), add_special_tokens=False)
        ids.extend(encoding.ids)
        for begin, end in encoding.offsets:
            mask.append(int(any(begin < b and end > a for a, b in clean)))

    ids: list[int] = []
    mask: list[int] = []
    done = 0
    backend.encode_special_tokens = True
    for match in special.finditer(text):
        encode(text[done : match.start()], done)
        ids.append(backend.token_to_id(match[0]))
        mask.append(int(any(a <= match.start() < b for a, b in spans)))
        done = match.end()
    encode(text[done:], done)
    backend.encode_special_tokens = False
    return ids, mask
