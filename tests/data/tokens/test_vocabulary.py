"""Layouts: what tiktoken publishes for cl100k_base, and specials where they are asked for."""

import pytest

from llmkit.data.tokens import vocabulary
from llmkit.data.tokens.bpe import SPECIALS


def test_gpt4s_layout_is_cl100k_bases():
    layout = vocabulary.gpt4()
    added = layout.added()
    assert (layout.learned, layout.total, len(added)) == (100_256, 100_277, 21)
    at = {name: layout.learned + i for i, name in enumerate(added)}
    # tiktoken_ext/openai_public.py, cl100k_base
    assert at["<|endoftext|>"] == 100_257
    assert [at[f"<|fim_{part}|>"] for part in ("prefix", "middle", "suffix")] == [
        100_258,
        100_259,
        100_260,
    ]
    assert at["<|endofprompt|>"] == 100_276
    assert at["<|reserved_100256|>"] == 100_256
    assert [at[name] for name in SPECIALS[1:]] == list(range(100_261, 100_266))
    assert all(at[f"<|reserved_{i}|>"] == i for i in range(100_266, 100_276))


def test_llmkits_own_layout_is_at_the_end():
    layout = vocabulary.at_the_end(400)
    assert (layout.learned, layout.total) == (394, 400)
    assert layout.added() == list(SPECIALS)


def test_specials_stand_where_they_are_asked_for():
    asked = {"<|endoftext|>": 300, "<|mine|>": 303, "<|pad|>": 310}
    layout = vocabulary.asked_for(asked)
    assert (layout.learned, layout.total) == (300, 311)
    assert {name: layout.specials[name] for name in asked} == asked
    # The four others take the lowest free ids, and what is left is reserved.
    assert [layout.specials[name] for name in SPECIALS[2:]] == [301, 302, 304, 305]
    assert layout.added()[6:10] == [f"<|reserved_{i}|>" for i in range(306, 310)]


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"<|pad|>": 300}, "<|endoftext|> is not among them"),
        ({"<|endoftext|>": 200}, "no room for the 256 bytes"),
        ({"<|endoftext|>": 300, "<|pad|>": 300}, "both asked to be 300"),
    ],
)
def test_layouts_that_cannot_be(asked, what):
    with pytest.raises(ValueError, match=what.replace("|", r"\|")):
        vocabulary.asked_for(asked)


def test_a_special_at_a_learnt_id_cannot_be():
    with pytest.raises(ValueError, match="ids to 499 are learnt"):
        vocabulary.placed(500, {"<|endoftext|>": 400}, ())
