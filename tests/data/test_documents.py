"""Curated documents on disk: FineWeb's columns, the same bytes every time, plain Parquet."""

import pytest

from llmkit.data.documents import Document, iter_documents, iter_texts, write_documents
from llmkit.errors import InputError

# As listed at https://huggingface.co/datasets/HuggingFaceFW/fineweb, in that order.
FINEWEB = "text id dump url date file_path language language_score token_count".split()
DOCUMENTS = [
    Document("first text", "a", {"url": "https://x.example", "language_score": 0.9, "junk": "no"}),
    Document("zweiter Text é\n", "b", {"token_count": 3}),
]


def test_columns_and_types_are_finewebs(tmp_path):
    import pyarrow.parquet as pq

    write_documents(tmp_path / "documents" / "00000.parquet", DOCUMENTS)
    schema = pq.read_schema(tmp_path / "documents" / "00000.parquet")
    assert schema.names == FINEWEB
    types = {name: str(schema.field(name).type) for name in FINEWEB}
    assert types.pop("language_score") == "double" and types.pop("token_count") == "int64"
    assert set(types.values()) == {"string"}


def test_documents_come_back_in_order_over_files(tmp_path):
    write_documents(tmp_path / "documents" / "00001.parquet", DOCUMENTS[1:])
    write_documents(tmp_path / "documents" / "00000.parquet", DOCUMENTS[:1])
    back = list(iter_documents(tmp_path))
    assert [document.text for document in back] == [document.text for document in DOCUMENTS]
    assert back[0].metadata == {"url": "https://x.example", "language_score": 0.9}
    assert back[1].metadata == {"token_count": 3}
    assert list(iter_texts(tmp_path)) == [document.text for document in DOCUMENTS]


def test_equal_documents_give_equal_bytes_and_no_leftovers(tmp_path):
    for name in "ab":
        write_documents(tmp_path / name, DOCUMENTS * 1500)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_plain_datasets_load_the_folder(tmp_path):
    import datasets

    for number in range(2):
        write_documents(tmp_path / "documents" / f"{number:05d}.parquet", DOCUMENTS)
    files = str(tmp_path / "documents" / "*.parquet")
    rows = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows.column_names == FINEWEB and rows.num_rows == 4


def test_a_folder_without_documents_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match="no documents/.*finished curate stage"):
        list(iter_texts(tmp_path))


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "documents" / "00000.parquet"
    path.parent.mkdir()
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(InputError, match="00000.parquet: cannot be read"):
        list(iter_texts(tmp_path))
