"""The rooms behind `llmkit.decode`: our loop for GPT-2-type models, transformers' for others."""
