"""Rules for settings of TRL, and of scripts built on TRL, that have no equivalent or need no override.

Each rule covers several settings that concern the same subject.
"""

from __future__ import annotations

from collections.abc import Mapping

from instruct_lab.conversion.rules import Different, Rule, Same
from instruct_lab.conversion.training import NEXT_PUSH, THEMES

TRL_THEMES: Mapping[str, Rule] = {
    **THEMES,
    "truncation_mode max_prompt_length max_completion_length": Different(
        "batching.max_tokens limits prompt and answer together, and batching.overlong says which of them is cut"
    ),
    "shuffle_dataset padding_free packing_strategy pad_to_multiple_of activation_offloading dataset_num_proc "
    "precompute_* train_sampling_strategy use_liger_loss": Same("the result does not depend on it"),
    "bnb_4bit_* use_bnb_nested_quant": Same("nf4 with quantised scales, computed in model.dtype"),
    "chat_template_path eos_token pad_token chat_template_kwargs": Different(
        "see template.jinja and `instruct-lab list tokenizer`"
    ),
    "dataset_text_field": Same("the column of data.format"),
    "dataset_kwargs dataset_prompt_column prompt_column dataset_split": Different("columns are those of data.format"),
    "system_prompt": Different("the rows' own system messages are used"),
    "lora_target_parameters model_init_kwargs router_aux_loss_coef": Different("there is no such setting here"),
    # on-policy methods: sampling, rewards, replay, reprompting, PPO's own step, servers of rollouts
    "vllm_* use_vllm num_generations* *_completions* log_unique_* log_multimodal generation_batch_size "
    "generation_kwargs steps_per_generation temperature top_* min_p "
    "epsilon* delta *_entropy* entropy_* reward_* scale_rewards num_iterations importance_* mask_truncated_completions "
    "missing_eos_penalty cache_implementation repetition_penalty max_new_tokens *_tool_calling_* use_transformers_* "
    "rollout_* *_group_* vespo_* sapo_* off_policy_* use_bias_* multi_objective_* judge* stop_token* *_for_generation "
    "normalize_advantages *_continuous_batching_config num_value_samples filter_* mixture_coef "
    "num_mini_batches total_episodes *_forward_batch_size num_sample_generations response_length sft_model_path "
    "num_total_batches *_adapter_name num_ppo_epochs whiten_rewards kl_* cliprange* vf_coef "
    "replay_* fork_* request_timeout token_budget max_inflight_* max_staleness queue_* weight_sync_* heartbeat_* "
    "*_reprompt* use_successful_* success_reward_* *prompt_template solution_template feedback_template "
    "*_environment_feedback* environment_feedback_* "
    "remove_thinking_* diagnostics_* pass_rate_* code_language code_eval_* output_dataset_name": Different(
        "answers are not generated and rewarded in training here"
    ),
    "prompt_sample_size *_density_ratio step_separator train_on_last_step_only alpha beta1 beta2 gamma lam": Different(
        "the objective has no such setting"
    ),
    "callbacks benchmarks benchmark* generate_during_eval": Different("see metrics, evaluation and callbacks"),
    "hub_model_revision overwrite_hub_revision": Different(NEXT_PUSH),
    "wandb_*": Different("settings of the tracker: see `instruct-lab list tracker`"),
    "is_encoder_decoder": Same("the family is that of the model option"),
    "sync_ref_model ref_model_* loss_weights ld_alpha f_divergence_* f_alpha_* use_weighting discopop_tau": Different(
        "the reference is the untuned model, and the loss that of the objective"
    ),
    "disable_dropout": Same("dropout is that of the model and of tuning.dropout"),
    "teacher_* *_teacher *_teacher_* distillation_* lmbda gkd_* tpo_* uld_* *_uld_* use_extended_uld seq_kd kd_* rkl_* "
    "reverse_kl_* iw_opd_* loss_top_k loss_add_tail single_step_decomposition length_normalization "
    "num_loss_tokens_*": Different("see objective=distillation"),
    "ignore_bias_buffers trackio_* project env cast_lm_head_* padding_value": Same("nothing depends on it here"),
}
