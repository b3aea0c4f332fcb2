"""The curation steps: the recipe's word -> `"module:Class"`. Imported only when used."""

STEPS = {
    "gutenberg_boilerplate": "llmkit.data.books:GutenbergBoilerplate",
    "split": "llmkit.data.books:Split",
    "gopher_repetition": "llmkit.data.gopher:GopherRepetition",
    "gopher_quality": "llmkit.data.gopher:GopherQuality",
    "c4_quality": "llmkit.data.c4:C4Quality",
    "fineweb_quality": "llmkit.data.fineweb:FineWebQuality",
    "exact_dedup": "llmkit.data.dedup:ExactDedup",
    "minhash": "llmkit.data.minhash:MinHash",
}
