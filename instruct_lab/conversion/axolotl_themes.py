"""Rules for groups of axolotl's settings that have no equivalent in this framework, or that need no override."""

from __future__ import annotations

from collections.abc import Mapping

from instruct_lab.conversion.rules import Different, Rule, Same
from instruct_lab.conversion.training import THEMES

AXOLOTL_THEMES: Mapping[str, Rule] = {
    **THEMES,
    "wandb_* mlflow_* hf_mlflow_* trackio_* comet_* use_comet swanlab_* use_swanlab otel_* use_otel*": Different(
        "settings of the tracker: see `instruct-lab list tracker`"
    ),
    "plugins liger_* lora_*_kernel use_kernels *_attn_kernel flash_attn_* flex_attn_* flash_optimum *_implementation "
    "cut_cross_entropy chunked_* *cross_entropy* tiled_mlp* use_scattermoe use_sonicmoe use_*_kernels use_onebitllms "
    "sdpa_varlen sage_attention *attn_impl large_head_attention": Same(
        "kernels change the speed, not what is computed"
    ),
    "*_parallel_size dp_* use_ray ray_* resources_per_worker world_size heads_k_stride ring_attn_func "
    "deepcompile device device_map ddp max_memory gpu_memory_limit fp32_norm*": Different(
        "devices are those of trainer.devices, with trainer=ddp for several"
    ),
    "dataset_prepared_path dataset_processes dataset_num_proc dataset_shard_* dataset_keep_in_memory "
    "skip_prepare_dataset num_dataset_* push_dataset_to_hub strict debug is_*_derived* "
    "tokenizer_use_fast tokenizer_legacy tokenizer_save_* activation_offloading layer_offloading gc_* *_offload "
    "selective_checkpointing low_cpu_* lora_on_cpu lora_fan_in_fan_out total_* sample_packing_* multipack_* profiler_* "
    "include_* auto_resume_from_checkpoints experimental_* hf_use_auth_token save_first_step base_model_ignore* "
    "embeddings_skip_upcast torchdistx_path sequence_parallel_degree axolotl_config_path preprocess_iterable "
    "is_preprocess pad_to_multiple_of shuffle_before_merging_datasets *capabilities gradio_* project debug "
    "save_compressed": Same("the result does not depend on it"),
    "lora_target_parameters loraplus_lr_embedding lora_rank_pattern lora_alpha_pattern peft peft_* relora* "
    "jagged_* merge_* gptq* bnb_config_kwargs quantize_* qlora_*": Different(
        "adapters have the fields of `instruct-lab list tuning lora`"
    ),
    "lisa_* optim_args optim_target_modules qgalore_* dion_* adam_eps adam_epsilon2 adam_beta3 lr_div_factor lr_groups "
    "lr_quadratic_warmup embedding_lr* cosine_constant_* eta_min": Different(
        "see `instruct-lab list optimizer` and `instruct-lab list lr_scheduler`"
    ),
    "trl vllm ebft *_reward_model process_reward_model num_labels kto_* dpo_* simpo_* cpo_* precompute_*": Different(
        "the objective does not have it: instruct-lab list objective"
    ),
    "processor_* image_* freeze_mm_modules role_boundaries": Different("only texts are trained on"),
    "qat quantization fp8* nvfp4_* dsv4_* model_quantization_* llmcompressor float32": Different(
        "weights are quantised to 8 or 4 bits, while they are frozen (model.quantization)"
    ),
    "streaming* pretrain_* pretraining_* curriculum_sampling *_sample_concatenation batch_flattening use_pose pose_* "
    "max_packed_sequence_len eval_sequence_len min_sample_len max_prompt_len": Different(
        "examples are those of the data, each up to batching.max_tokens"
    ),
    "loss_watchdog_* eval_table_size eval_max_new_tokens eval_causal_lm_metrics do_*_eval bench_* generate_samples "
    "num_generation_samples use_eaft eaft_* diffusion noise_*": Different("see metrics, evaluation and generation"),
    "resize_token_* mean_resizing_* shrink_* reinit_weights added_tokens_overrides fix_untrained_tokens tokenizer_* "
    "chat_template_kwargs base_model_config cls_model_config model_config overrides_of_* llama4_*": Different(
        "see model.tokenizer, template.variables and `instruct-lab list model`"
    ),
    "kd_* kd_trainer": Different("see objective=distillation"),
    "lm_eval_*": Different("see metrics/metric=lm_eval and `instruct-lab list metrics/metric`"),
    "mora hatchery nemo_gym_* dense_mixer spectrum_* grokfast_* rpo_alpha s2_attention rope_scaling scaling_softmax* "
    "generation_max_new_tokens generation_temperature generation_top_p generation_top_k generation_prompt_ratio "
    "generation_do_sample recipe": Different("there is no such setting here: see `instruct-lab list`"),
    "expert_* expert_backend nonexpert_* moe_* gemma4_*": Same("kernels change the speed, not what is computed"),
    "trainer_cls dynamic_checkpoint": Different("there is one trainer, that of Lightning"),
}
