"""The curation steps: the recipe's word -> `"module:Class"`. Imported only when used.

A preset is a word that stands for several steps, each written as a recipe would.
"""

from typing import Any

STEPS = {
    "url": "llmkit.data.curation.url:Url",
    "extract": "llmkit.data.curation.extraction:Extract",
    "language": "llmkit.data.curation.language:Language",
    "gutenberg_boilerplate": "llmkit.data.curation.books:GutenbergBoilerplate",
    "split": "llmkit.data.curation.books:Split",
    "gopher_repetition": "llmkit.data.curation.gopher:GopherRepetition",
    "gopher_quality": "llmkit.data.curation.gopher:GopherQuality",
    "c4_quality": "llmkit.data.curation.c4:C4Quality",
    "fineweb_quality": "llmkit.data.curation.fineweb:FineWebQuality",
    "educational_quality": "llmkit.data.curation.educational_quality:EducationalQuality",
    "exact_dedup": "llmkit.data.curation.dedup:ExactDedup",
    "minhash": "llmkit.data.curation.minhash:MinHash",
    "pii": "llmkit.data.curation.pii:Pii",
    "decontaminate": "llmkit.data.curation.decontamination:Decontaminate",
}

# FineWeb's order and numbers, which are the steps' defaults:
# https://github.com/huggingface/datatrove/blob/a649de79c14a550dc90f48a15c025f2dd3fd3b57/examples/fineweb.py
PRESETS: dict[str, list[Any]] = {
    "fineweb": [
        {"url": {"use_integrated_lists": True}},
        "extract",
        "language",
        "gopher_repetition",
        "gopher_quality",
        "c4_quality",
        "fineweb_quality",
        "minhash",
        "pii",
    ],
}
