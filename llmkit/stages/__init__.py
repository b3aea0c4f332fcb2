"""The rungs of the ladder: the recipe's word -> `"module:Class"`. Imported only when used."""

STAGES = {
    "curate": "llmkit.stages.curate:Curate",
    "tokenizer": "llmkit.stages.tokenizer:Tokenizer",
    "tokenize": "llmkit.stages.tokenize:Tokenize",
    "pretrain": "llmkit.stages.pretrain:Pretrain",
    "sft": "llmkit.stages.sft:SFT",
    "reward": "llmkit.stages.reward:Reward",
    "dpo": "llmkit.stages.dpo:DPO",
    "grpo": "llmkit.stages.grpo:GRPO",
    "rloo": "llmkit.stages.rloo:RLOO",
    "ppo": "llmkit.stages.ppo:PPO",
    "evaluate": "llmkit.stages.evaluate:Evaluate",
    "generate": "llmkit.stages.generate:Generate",
}
