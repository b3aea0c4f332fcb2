"""What a model can be asked to do: the recipe's word -> `"module:Class"`. Imported when used."""

TASKS = {
    "bits_per_byte": "llmkit.tasks.bits_per_byte:BitsPerByteTask",
    "conversation_loss": "llmkit.tasks.conversation_loss:ConversationLoss",
    "replies": "llmkit.tasks.replies:Replies",
    "tinyworld_cloze": "llmkit.tasks.tinyworld_cloze:TinyworldCloze",
    "tinyworld_facts": "llmkit.tasks.tinyworld_facts:TinyworldFacts",
    "tinyworld_unknown": "llmkit.tasks.tinyworld_unknown:TinyworldUnknown",
    "tinyworld_sums": "llmkit.tasks.tinyworld_sums:TinyworldSums",
    "tinyworld_answers": "llmkit.tasks.tinyworld_answers:TinyworldAnswers",
    "hellaswag": "llmkit.tasks.hellaswag:HellaSwag",
    "digit_sums": "llmkit.tasks.digit_sums:DigitSums",
    "word_problems": "llmkit.tasks.word_problems:WordProblems",
}
