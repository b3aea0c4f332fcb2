"""What is bound onto a transformers model for each name in `llmkit.patch.PATCHES`, a file each."""
