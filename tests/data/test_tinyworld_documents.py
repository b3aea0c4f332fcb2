"""The small web: deterministic, streaming, truthful, labelled, and clean of what is held out."""

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest

from llmkit.data.curation.c4 import C4Quality
from llmkit.data.curation.filters import Dropped
from llmkit.data.curation.fineweb import FineWebQuality
from llmkit.data.curation.gopher import GopherQuality, GopherRepetition
from llmkit.data.documents import Document
from llmkit.data.tinyworld import sums
from llmkit.data.tinyworld.conversations import conversations
from llmkit.data.tinyworld.documents import documents
from llmkit.data.tinyworld.junk import SHARES
from llmkit.data.tinyworld.wordings import ATTRIBUTES
from llmkit.data.tinyworld.world import World, population

SEEDS = (0, 1, 7)
RULES = (GopherRepetition(), GopherQuality(), C4Quality(), FineWebQuality())


def reason(document: Document) -> str:
    """Why the published rules drop a document; "" if they keep every word of it."""
    for rule in RULES:
        result = rule.apply(document)
        if isinstance(result, Dropped):
            return result.reason
        if result != document:
            return "edited"
    return ""


@pytest.fixture(scope="module", params=SEEDS)
def web(request):
    world = World(seed=request.param)
    return world, list(documents(world, 3000, seed=request.param))


def test_the_first_document_comes_without_the_others():
    assert next(documents(World(), 10**12)).id == "tinyworld-0-0-0000000"


def test_a_stream_may_start_anywhere(web):
    world, stream = web
    again = documents(world, 3000, seed=world.seed, start=2500)
    assert list(again) == stream[2500:]


def test_ids_and_addresses_are_unique_and_seeds_tell_other_webs(web):
    world, stream = web
    assert len({d.id for d in stream}) == len({d.metadata["url"] for d in stream}) == 3000
    other = {d.text for d in islice(documents(world, 500, seed=99), 500) if d.metadata["keep"]}
    assert len(other & {d.text for d in stream}) <= 2


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_same_bytes_in_every_process(hash_seed):
    code = (
        "import sys; from llmkit.data.tinyworld.world import World;"
        "from llmkit.data.tinyworld.documents import documents;"
        "from llmkit.data.tinyworld.conversations import conversations;"
        "print(*documents(World(), 300), *conversations(World(), 300));"
        "assert not {'numpy', 'torch'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    ).stdout
    here = " ".join(map(str, (*documents(World(), 300), *conversations(World(), 300)))) + "\n"
    assert hashlib.sha256(shown).digest() == hashlib.sha256(here.encode()).digest()


def test_labels_say_what_a_document_is(web):
    _, stream = web
    texts = {}
    for document in stream:
        truth = document.metadata
        assert truth["keep"] == (truth["junk"] == "") == (truth["kind"] != "junk")
        assert truth["emails"] == len(re.findall(r"[\w.]+@\w+\.example\b", document.text))
        if truth["junk"] == "exact_duplicate":
            assert texts[truth["duplicate_of"]] == document.text
        if truth["junk"] == "near_duplicate":
            assert document.text.startswith(texts[truth["duplicate_of"]])
        assert bool(truth["duplicate_of"]) == truth["junk"].endswith("_duplicate")
        assert (truth["language"] != "en") == (truth["junk"] == "other_language")
        texts[document.id] = document.text
    shares = Counter(document.metadata["junk"] for document in stream)
    for sort, share in SHARES.items():
        assert shares[sort] / len(stream) == pytest.approx(share, abs=0.012)
    kinds = Counter(d.metadata["kind"] for d in stream)
    assert min(kinds[kind] for kind in ("page", "story", "dialogue", "sums")) > 120


def test_good_documents_pass_the_published_rules_and_are_unique(web):
    _, stream = web
    good = [document for document in stream if document.metadata["keep"]]
    dropped = Counter(filter(None, map(reason, good)))
    assert dropped.total() / len(good) < 0.005, dropped
    assert len({document.text for document in good}) == len(good)


@pytest.mark.parametrize(
    "world",
    [
        World(people=20, towns=4, goods=8, names=16, held_out=0.05),
        World(people=1000, towns=192, goods=400, names=156, sum_digits=3, held_out=0.5),
    ],
)
def test_small_and_large_worlds_have_good_documents_too(world):
    good = [d for d in documents(world, 500) if d.metadata["keep"]]
    dropped = Counter(filter(None, map(reason, good)))
    assert len(good) > 350
    assert dropped.total() / len(good) < 0.02, dropped
    assert held_out_in(world, "\n".join(document.text for document in good)) == []
    for split in ("train", "heldout"):
        assert len(list(conversations(world, 500, split=split))) == 500


def test_every_sort_of_fresh_junk_breaks_a_published_rule(web):
    _, stream = web
    for sort in ("boilerplate", "repetition", "spam", "other_language"):
        junk = [document for document in stream if document.metadata["junk"] == sort]
        assert junk and all(map(reason, junk)), sort


def test_what_documents_tell_is_true(web):
    world, stream = web
    known = {entity.name: entity.values for entity in population(world).entities}
    forms = {  # sentence -> index of the value, written by hand
        r"([A-Z]\w+ [A-Z]\w+) lives in (\w+)\.": 0,
        r"The home of ([A-Z]\w+ [A-Z]\w+) is (\w+)\.": 0,
        r"By trade ([A-Z]\w+ [A-Z]\w+) is a (\w+)\.": 1,
        r"([A-Z]\w+ [A-Z]\w+) was born in (\d+)\.": 2,
        r"With ([A-Z]\w+ [A-Z]\w+) lives a (\w+)\.": 3,
        r"Nothing is dearer to ([A-Z]\w+ [A-Z]\w+) than (\w+)\.": 4,
        r"The river of (\w+) is the (\w+)\.": 0,
        r"(\w+) belongs to the region (\w+)\.": 1,
        r"(?<= )(\w+) was founded in (\d+)\.": 2,
        r"The (\w+ \w+) costs (\d+) coins\.": 0,
        r"The (\w+ \w+) comes from (\w+)\.": 1,
    }
    text = "\n".join(document.text for document in stream)
    for form, index in forms.items():
        told = re.findall(form, text)
        assert len(told) > 20, form
        assert all(known[name][index] == value for name, value in told), form
    for a, b, working in re.findall(r"(\d+) (?:\+|and|plus) (\d+)[?.] (.*?, so \d+\.)", text):
        assert working == sums.worked(int(a), int(b))


def test_every_fact_recurs_in_every_wording():
    text = "\n".join(d.text for d in documents(World(), 8000) if d.metadata["keep"])
    for attribute in ATTRIBUTES:
        for statement in attribute.statements:
            before, between, after = map(re.escape, re.split(r"\{n\}|\{v\}", statement))
            form = rf"{before}([A-Z]\w+ [A-Z]\w+|\w+ \w+|\w+){between}(\w+){after}"
            assert len(set(re.findall(form, text))) >= 20, statement
    told = {entity.name: Counter() for entity in population(World()).entities}
    for sentence in set(re.split(r"(?<=[.?])\s", text)):
        words = sentence.rstrip(".").split()
        for name in (" ".join(pair) for pair in zip(words, words[1:], strict=False)):
            if name in told:
                told[name].update(set(words))
    for person in population(World()).people:
        assert min(told[person.name][value] for value in person.values) >= 3, person


def test_half_of_the_stories_are_about_people_who_do_not_exist(web):
    world, stream = web
    people = {person.name for person in population(world).people}
    stories = [d.text for d in stream if d.metadata["kind"] == "story"]
    heroes = [re.search(r"day (\w+ \w+) met (\w+ \w+) at", story).groups() for story in stories]
    known = [people.issuperset(pair) for pair in heroes]
    assert not any(people.intersection(p) for p, k in zip(heroes, known, strict=True) if not k)
    assert sum(known) / len(known) == pytest.approx(0.5, abs=0.1)


def held_out_in(world: World, text: str) -> list[str]:
    """Everything in a training text that must not be there."""
    held = population(world).held_out
    words, lowered = re.findall(r"\w+", text), text.lower()
    found = list(set(words).intersection(held["town"]))
    pairs = {f"{a} {b}" for a, b in zip(words, words[1:], strict=False)}
    found += pairs.intersection(held["person"])
    found += pairs.intersection(held["good"])
    for wording in (w for a in ATTRIBUTES for w in a.asked("heldout")):
        before, after = wording.lower().rstrip("?.").split("{n}")
        if before in lowered:
            form = rf"{re.escape(before)}(?:\w+ )?\w+{re.escape(after)}\b"
            found += re.findall(form, lowered)
    sums_told = re.findall(r"(?=\b(\d+) (?:\+|plus|and) (\d+)\b)", text)
    found += [f"{a} + {b}" for a, b in sums_told if sums.is_held_out(world, int(a), int(b))]
    return found


def test_the_scan_itself_finds_what_is_planted():
    world, held = World(), population(World()).held_out
    for kind in ("person", "town", "good"):
        assert held_out_in(world, f"They met {held[kind][0]} there.") == [held[kind][0]]
    assert held_out_in(world, "so tell me the town where Ann Cole lives, please")
    pair = next((a, b) for a in range(99) for b in range(99) if sums.is_held_out(world, a, b))
    assert held_out_in(world, f"Can you add {pair[0]} and {pair[1]}?")


def test_no_training_text_holds_what_is_held_out(web):
    world, stream = web
    assert held_out_in(world, "\n".join(document.text for document in stream)) == []
    rows = conversations(world, 8000, seed=world.seed)
    said = [message["content"] for row in rows for message in row["messages"]]
    assert held_out_in(world, "\n".join(said)) == []
