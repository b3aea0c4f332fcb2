"""What a policy is rewarded by: the key that selects a reward -> `"module:Class"`."""

REWARDS = {
    "model": "llmkit.rewards.model:ModelReward",
    "task": "llmkit.rewards.task:TaskReward",
    "function": "llmkit.rewards.function:FunctionReward",
}
