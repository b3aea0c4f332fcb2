"""The curation steps: the recipe's word -> `"module:Class"`. Imported only when used.

A preset is a word that stands for several steps, each written as a recipe would.
"""

from typing import Any

STEPS = {
    "url": "llmkit.data.url:Url",
    "extract": "llmkit.data.extraction:Extract",
    "language": "llmkit.data.language:Language",
    "gutenberg_boilerplate": "llmkit.data.books:GutenbergBoilerplate",
    "split": "llmkit.data.books:Split",
    "gopher_repetition": "llmkit.data.gopher:GopherRepetition",
    "gopher_quality": "llmkit.data.gopher:GopherQuality",
    "c4_quality": "llmkit.data.c4:C4Quality",
    "fineweb_quality": "llmkit.data.fineweb:FineWebQuality",
    "educational_quality": "llmkit.data.educational_quality:EducationalQuality",
    "exact_dedup": "llmkit.data.dedup:ExactDedup",
    "minhash": "llmkit.data.minhash:MinHash",
    "pii": "llmkit.data.pii:Pii",
    "decontaminate": "llmkit.data.decontamination:Decontaminate",
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
