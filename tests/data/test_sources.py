"""Sources: which files a path means, the Hub by `datasets` streaming, and the embedded world."""

import json

import pytest

from llmkit.build import Builder
from llmkit.data.readers import BadRows
from llmkit.data.sources import HubSource, PathSource, TinyworldDocuments, TinyworldSource
from llmkit.errors import InputError
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
    mark = Keyed("llmkit.data.sources:SOURCES")
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
    ]
    builder.listed(mark, wrong, ("sources",))
    told = "\n".join(map(str, builder.problems))
    assert "sources[0]: limit: 0 is not positive" in told
    assert "sources[1]: encoding: Python knows no 'utf-9'" in told
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
