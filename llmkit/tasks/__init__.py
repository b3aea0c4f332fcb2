"""What a model can be asked to do: the recipe's word -> `"module:Class"`. Imported when used."""

TASKS = {
    "tinyworld_cloze": "llmkit.tasks.tinyworld_cloze:TinyworldCloze",
    "tinyworld_facts": "llmkit.tasks.tinyworld_facts:TinyworldFacts",
    "tinyworld_unknown": "llmkit.tasks.tinyworld_unknown:TinyworldUnknown",
    "tinyworld_sums": "llmkit.tasks.tinyworld_sums:TinyworldSums",
}
