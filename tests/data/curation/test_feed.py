"""The feed: sources mixed by weights, each to its end."""

import json

from llmkit.data.curation.feed import Feed
from llmkit.data.sources.table import PathSource


def test_weights_mix_the_sources_and_lose_nothing(tmp_path):
    for name in "ab":
        rows = "".join(json.dumps({"text": f"{name}{n}"}) + "\n" for n in range(6))
        (tmp_path / f"{name}.jsonl").write_text(rows)
    sources = [
        PathSource(path=str(tmp_path / "a.jsonl"), weight=1),
        PathSource(path=str(tmp_path / "b.jsonl"), weight=2),  # the first document is this one's
    ]
    feed = Feed(
        sources=sources,
        world={},
        seed=0,
        limit=None,
        max_bad_rows=0,
        block_documents=100,
        label="curate",
    )
    (job,) = feed.jobs(set(), None)
    found = [document.text for _, document in job.documents]
    assert found[:6] == ["b0", "a0", "b1", "b2", "a1", "b3"]
    assert sorted(found) == sorted(f"{name}{n}" for name in "ab" for n in range(6))
