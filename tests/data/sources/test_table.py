"""Sources: which files a path means, the Hub by `datasets` streaming, and the embedded world."""

import gzip
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from archives import http, warc
from fake_hub import COMMIT, FakeHub, serving

from llmkit.build import Builder
from llmkit.data.sources.budget import Limit
from llmkit.data.sources.readers import BadRows
from llmkit.data.sources.table import HubSource, PathSource, TinyworldDocuments, TinyworldSource
from llmkit.errors import InputError, MissingExtraError
from llmkit.schema import Keyed


def texts(source, allowed=0):
    return [document.text for document in source.documents({}, 0, BadRows(allowed))]


def jsonl(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return path


@pytest.fixture
def folder(tmp_path):
    jsonl(tmp_path / "b" / "2.jsonl", "three", "four")
    jsonl(tmp_path / "a" / "1.jsonl", "one", "two")
    jsonl(tmp_path / ".hidden" / "0.jsonl", "hidden")
    (tmp_path / "README.md").write_text("not read")
    return tmp_path


def test_a_folder_a_file_and_a_pattern(folder):
    assert texts(PathSource(path=str(folder))) == ["one", "two", "three", "four"]
    assert texts(PathSource(path=str(folder / "b" / "2.jsonl"))) == ["three", "four"]
    assert texts(PathSource(path=str(folder / "*" / "1.jsonl"))) == ["one", "two"]
    assert [file.name for file in PathSource(path=str(folder)).files()] == ["1.jsonl", "2.jsonl"]


def test_names_are_free_of_machine_bound_folders(folder):
    for path in (folder, folder / "*" / "*.jsonl"):
        found = list(PathSource(path=str(path)).documents({}, 0, BadRows()))
        assert [document.id for document in found][:2] == ["a/1.jsonl:1", "a/1.jsonl:2"]
        assert found[0].metadata["file_path"] == "a/1.jsonl"
        assert str(folder.parent) not in PathSource(path=str(path)).label


def test_a_curate_folder_means_its_documents(tmp_path):
    jsonl(tmp_path / "documents" / "00000.jsonl", "kept")
    jsonl(tmp_path / "removed" / "00000.jsonl", "removed")
    (tmp_path / "stats.json").write_text("{}")
    assert texts(PathSource(path=str(tmp_path))) == ["kept"]


def test_parts_one_after_another_are_the_source(folder):
    tinyworld = TinyworldSource(tinyworld=TinyworldDocuments(num_documents=4500))
    for source in (PathSource(path=str(folder)), tinyworld):
        parts = pickle.loads(pickle.dumps(list(source.parts())))
        assert parts == list(source.parts()) and len(parts) > 1
        pieces = [list(part.documents({"people": 20}, 3, BadRows())) for part in reversed(parts)]
        whole = list(source.documents({"people": 20}, 3, BadRows()))
        assert [document for piece in reversed(pieces) for document in piece] == whole


def test_a_limit_in_tokens_and_the_size_that_is_known(folder):
    four_tokens = PathSource(path=str(folder), limit=Limit(tokens=2))  # "one", "two": a token each
    assert texts(four_tokens) == ["one", "two"] and four_tokens.size is None
    assert PathSource(path=str(folder), limit=Limit(documents=3)).size == 3
    world = TinyworldDocuments(num_documents=50)
    assert TinyworldSource(tinyworld=world, limit=Limit(tokens=500)).size is None
    assert TinyworldSource(tinyworld=world, limit=7).size == 7


def test_a_folder_of_pages_and_archives(tmp_path):
    pytest.importorskip("fastwarc")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<p>one")
    (tmp_path / "site" / "style.css").write_text("p {}")
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(warc(http(b"<p>two"))))
    (tmp_path / "b.warc.gz").write_bytes(b"not an archive")
    bad_rows = BadRows()
    found = list(PathSource(path=str(tmp_path)).documents({}, 0, bad_rows))
    assert [document.text for document in found] == ["<p>two", "<p>one"]
    assert bad_rows.count == 0 and sum(bad_rows.quarantine.counts.values()) == 1


def test_a_missing_extra_is_one_line(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastwarc", None)
    (folder / "a.warc").write_bytes(warc(http(b"<p>")))
    with pytest.raises(MissingExtraError) as error:
        PathSource(path=str(folder / "a.warc")).parts()
    assert "fastwarc is not installed; pip install 'llmkit[web]'" in str(error.value)
    assert len(PathSource(path=str(folder / "a" / "1.jsonl")).parts()) == 1


def test_names_that_are_no_utf8(tmp_path):
    os.makedirs(os.fsencode(tmp_path) + b"/caf\xe9")
    with open(os.fsencode(tmp_path) + b"/caf\xe9/a.txt", "w") as file:
        file.write("words")
    (document,) = PathSource(path=str(tmp_path)).documents({}, 0, BadRows())
    assert document.id == document.metadata["file_path"] == "caf?/a.txt"


def test_limit_takes_the_first_documents(folder):
    source = PathSource(path=str(folder), limit=3)
    assert texts(source) == ["one", "two", "three"] and source.size == 3


@pytest.mark.parametrize("name", ["gone.jsonl", "gone/", "*.parquet", "empty"])
def test_paths_without_files_are_one_clear_error(folder, name):
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="no files|no such file"):
        list(PathSource(path=str(folder / name)).files())


def test_recipe_keys_select_and_check_the_source():
    builder = Builder()
    items = [
        {"hub": "HuggingFaceFW/fineweb", "name": "sample-10BT", "limit": 10},
        {"path": "data", "column": "body"},
        {"tinyworld": {"num_documents": 5}},
    ]
    mark = Keyed("llmkit.data.sources.table:SOURCES")
    built = builder.listed(mark, items, ("sources",))
    assert built == (
        HubSource(hub="HuggingFaceFW/fineweb", name="sample-10BT", limit=10),
        PathSource(path="data", column="body"),
        TinyworldSource(tinyworld=TinyworldDocuments(num_documents=5)),
    )
    wrong = [
        {"path": "a", "limit": 0},
        {"path": "a", "encoding": "utf-9"},
        {"hub": "a", "colum": "b"},
        {"path": "a", "weight": 0},
    ]
    builder.listed(mark, wrong, ("sources",))
    told = "\n".join(map(str, builder.problems))
    assert "sources[0]: limit: 0 is not positive" in told
    assert "sources[1]: encoding: Python knows no 'utf-9'" in told
    assert "sources[3]: weight: 0 is not positive" in told
    assert "sources[2].colum: no such key" in told and "column" in told


@pytest.fixture
def local_dataset(tmp_path, monkeypatch):
    """A folder in the place of a Hub id: `load_dataset` takes both."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    jsonl(tmp_path / "set" / "train.jsonl", "one", "two", "three")
    jsonl(tmp_path / "set" / "test.jsonl", "held out")
    return tmp_path / "set"


def test_hub_data_set_streams_split_and_limit(local_dataset):
    assert texts(HubSource(hub=str(local_dataset), limit=2)) == ["one", "two"]
    assert texts(HubSource(hub=str(local_dataset), split="test")) == ["held out"]


def test_hub_arguments_reach_load_dataset(monkeypatch):
    import datasets

    asked = {}

    def load_dataset(path, **arguments):
        asked.update(arguments, path=path)
        rows = [{"body": "one", "id": "x"}, {"body": None}]
        return datasets.IterableDataset.from_generator(lambda: iter(rows))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = HubSource(hub="some/set", name="config", revision="abc", split="all", column="body")
    with pytest.raises(InputError, match="hub:some/set/config, row 2: 'body' holds NoneType"):
        texts(source)
    assert texts(source, allowed=1) == ["one"]
    assert asked == {
        "path": "some/set",
        "name": "config",
        "revision": "abc",
        "split": "all",
        "streaming": True,
    }


def test_the_files_of_a_hub_data_set_are_its_parts(local_dataset):
    jsonl(local_dataset / "train-2.jsonl", "four", "five")
    (local_dataset / "README.md").write_text(
        "---\nconfigs:\n- {config_name: default, data_files: train*}\n---"
    )
    source = HubSource(hub=str(local_dataset))
    parts = pickle.loads(pickle.dumps(list(source.parts())))
    assert len(parts) == 2
    found = [d for part in parts for d in part.documents({}, 0, BadRows())]
    assert found == list(source.documents({}, 0, BadRows()))
    assert sorted(d.text for d in found) == sorted(["one", "two", "three", "four", "five"])
    assert found[0].id == f"{local_dataset}:0:1"


def test_hub_faults_are_one_clear_error(local_dataset, tmp_path):
    with pytest.raises(InputError, match="no column 'body'"):
        texts(HubSource(hub=str(local_dataset), column="body"))
    with pytest.raises(InputError, match="split"):
        texts(HubSource(hub=str(local_dataset), split="gone"))
    with pytest.raises(InputError, match="check the id"):
        texts(HubSource(hub=str(tmp_path / "gone")))


def test_tinyworld_gives_as_many_documents_as_asked_with_the_truth():
    source = TinyworldSource(tinyworld=TinyworldDocuments(num_documents=300))
    documents = list(source.documents({"people": 50}, 3, BadRows()))
    assert len(documents) == source.size == 300
    kept = {document.metadata["keep"] for document in documents}
    assert kept == {True, False}
    again = [document.text for document in source.documents({"people": 50}, 3, BadRows())]
    assert again == [document.text for document in documents]


STREAM = """
import json, sys
import datasets
datasets.config.STREAMING_READ_MAX_RETRIES = datasets.config.STREAMING_OPEN_MAX_RETRIES = 1
datasets.config.STREAMING_READ_RETRY_INTERVAL = datasets.config.STREAMING_OPEN_RETRY_INTERVAL = 0
datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
from llmkit.data.sources.readers import BadRows
from llmkit.data.sources.table import HubSource
from llmkit.errors import InputError
found = []
for name, limit in json.loads(sys.argv[1]):
    source = HubSource(hub="HuggingFaceFW/fineweb", name=name, limit=limit)
    try:
        found.append([d.id for d in source.documents({}, 0, BadRows())])
    except InputError as error:
        found.append(str(error))
print(json.dumps(found))
"""


def fineweb(num_rows):
    """Two configurations laid out as FineWeb's are, of texts that do not pack well."""
    import io
    import random

    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = random.Random(0)
    card = "---\nconfigs:\n- {config_name: default, data_files: data/*/*}\n"
    card += "- {config_name: sample-10BT, data_files: sample/10BT/*}\n---\n"
    files = {"README.md": card.encode()}
    for path in ("data/CC-MAIN-2024-10/000", "sample/10BT/000", "sample/10BT/001"):
        buffer = io.BytesIO()
        rows = [(f"{path}:{n}", rng.randbytes(1500).hex()) for n in range(num_rows)]
        table = pa.table({"text": [text for _, text in rows], "id": [name for name, _ in rows]})
        pq.write_table(table, buffer, row_group_size=50)
        files[f"{path}_00000.parquet"] = buffer.getvalue()
    return {"HuggingFaceFW/fineweb": files}


def streamed(hub, tmp_path, *asked):
    """The ids of each (config, limit), read in a process that knows `hub` as the Hub."""
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    settings |= {"HF_HUB_OFFLINE": "0", "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", STREAM, json.dumps(asked)]
    done = subprocess.run(
        command, env=os.environ | settings, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_hub_is_streamed_by_name_and_goes_on_where_a_connection_was_cut(tmp_path):
    sample = [f"sample/10BT/{file}:{row}" for file in ("000", "001") for row in range(200)]
    with serving(FakeHub(fineweb(200))) as hub:
        hub.cut_after = [400_000, 900_000]
        found = streamed(hub, tmp_path, ("sample-10BT", None), (None, 7))
        assert found == [sample, [f"data/CC-MAIN-2024-10/000:{row}" for row in range(7)]]
        assert hub.cuts == 2
        assert any(COMMIT in path for _, path, _ in hub.asked)


@pytest.mark.slow
def test_a_hub_that_stays_away_is_one_clear_error(tmp_path):
    with serving(FakeHub(fineweb(20))) as hub:
        found = streamed(hub, tmp_path, ("sample-10BT", 1), ("gone", 1))
        hub.refuse = True
        found += streamed(hub, tmp_path, ("sample-10BT", 1))
    assert found[0] == ["sample/10BT/000:0"]
    assert "hub:HuggingFaceFW/fineweb/gone: BuilderConfig 'gone' not found" in found[1]
    assert "hub:HuggingFaceFW/fineweb/sample-10BT: " in found[2]
    assert "the connection to the Hub" in found[2]
