"""Arguments of `GRPOConfig` that PPO has no use for. Imports nothing: a recipe check reads it."""

from __future__ import annotations

GROUPS = "there are no groups here: a value model says what to expect of a prompt"
CLIPPING = "PPO's own are cliprange and cliprange_value"
LOSS = "PPO has one policy loss, the clipped one, as a mean over the tokens of an update"
RATIO = "PPO's ratio is of each token"
KL = "the KL penalty is part of each token's reward: kl_coef, kl_target, kl_horizon"
ROLLOUT = (
    "it follows: per_device_train_batch_size x gradient_accumulation_steps x num_mini_batches rows"
)
ENTROPY = "PPO adds nothing for entropy; the KL penalty keeps the policy near its reference"
UNFINISHED = "missing_eos_penalty takes from the score of an unfinished answer"
REFERENCE = "the reference is the model as it was given"
TOOLS = "PPO writes one answer to a prompt"
OFF_POLICY = "the policy's own log-probabilities are worked out anew for each rollout"

REFUSED = {
    "beta": KL,
    "delta": CLIPPING,
    "epsilon": CLIPPING,
    "epsilon_high": CLIPPING,
    "entropy_coef": ENTROPY,
    "entropy_coef_delta": ENTROPY,
    "entropy_coef_max": ENTROPY,
    "entropy_coef_min": ENTROPY,
    "entropy_target": ENTROPY,
    "use_adaptive_entropy": ENTROPY,
    "top_entropy_quantile": ENTROPY,
    "generation_batch_size": ROLLOUT,
    "steps_per_generation": ROLLOUT,
    "num_iterations": "PPO's name for it is num_ppo_epochs",
    "importance_sampling_level": RATIO,
    "loss_type": LOSS,
    "mask_truncated_completions": UNFINISHED,
    "max_tool_calling_iterations": TOOLS,
    "multi_objective_aggregation": GROUPS,
    "scale_rewards": GROUPS,
    "off_policy_mask_threshold": OFF_POLICY,
    "vllm_importance_sampling_correction": OFF_POLICY,
    "vllm_importance_sampling_mode": OFF_POLICY,
    "vllm_importance_sampling_cap": OFF_POLICY,
    "vllm_importance_sampling_clip_max": OFF_POLICY,
    "vllm_importance_sampling_clip_min": OFF_POLICY,
    "sapo_temperature_neg": LOSS,
    "sapo_temperature_pos": LOSS,
    "vespo_k_neg": LOSS,
    "vespo_k_pos": LOSS,
    "vespo_lambda_neg": LOSS,
    "vespo_lambda_pos": LOSS,
    "router_aux_loss_coef": LOSS,
    "use_bias_correction_kl": KL,
    "sync_ref_model": REFERENCE,
    "ref_model_mixup_alpha": REFERENCE,
    "ref_model_sync_steps": REFERENCE,
    "cast_lm_head_to_fp32": "the log-probabilities are summed in float32 anyway",
    "disable_dropout": "dropout is off: the first ratio of a rollout would not be 1",
}
# What these say is so anyway.
TRUE_ANYWAY = {"disable_dropout": True, "importance_sampling_level": "token"}
