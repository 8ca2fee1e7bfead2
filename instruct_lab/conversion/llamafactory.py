"""Rules that convert the settings of LLaMA-Factory. Source: its `hparams`, version of August 2026."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instruct_lab.conversion import models
from instruct_lab.conversion.llamafactory_data import read_datasets
from instruct_lab.conversion.objectives import choose_loss, choose_objective, set_beta, set_for
from instruct_lab.conversion.rules import ON, Conversion, Different, Result, Rule, Same, Tool
from instruct_lab.conversion.training import PACKING, THEMES, TRAINING, set_attention, when_on

TEMPLATES = {"alpaca": "alpaca", "chatml": "chatml", "empty": "plain", "default": "plain"}
WITH_DATA = "see the rows of dataset"


def _tuning(state: Conversion, value: Any) -> Result:
    layers = int(state.get("freeze_trainable_layers", 2))
    is_bfloat16 = state.get("bf16") in ON
    if value == "lora":
        state.choose("tuning", "lora")
        if is_bfloat16 and not state.get("quantization_bit"):
            state.set("model.dtype", "bfloat16")
    elif value == "freeze":
        state.choose("tuning", "train_last_layers" if layers > 0 else "train_first_layers")
        state.set("tuning.last_layers" if layers > 0 else "tuning.first_layers", abs(layers))
    elif value == "oft":
        state.choose("tuning", "oft")
        state.set("tuning.block_size", int(state.get("oft_block_size", 32)))
    else:
        state.choose("tuning", "full")
    return None if value in ("lora", "freeze", "oft", "full") else Different(f"there is no {value}; all weights train")


def _template(state: Conversion, value: Any) -> Result:
    if state.get("stage") == "pt":
        return Same("plain text has no template")
    option = TEMPLATES.get(str(value), "chat")
    state.choose("template", option)
    if value == "default":
        state.set("template.user", "Human: {content}")
        state.set("template.assistant_header", "\nAssistant:")
    if option == "chat":
        return f"the tokenizer's own chat template, and not the tool's copy {value}: look with `instruct-lab inspect`"
    return None


def _stage(state: Conversion, value: Any) -> Result:
    loss = str(state.get("pref_loss", "sigmoid"))
    result = choose_objective(state, str(value))
    if value == "dpo" and loss != "sigmoid":
        result = choose_loss(state, loss)
    return result


def _beta(state: Conversion, value: Any) -> Result:
    return set_beta(state, value) if state.get("stage") in ("dpo", "kto") else Same("the objective does not read it")


def _gamma(state: Conversion, value: Any) -> Result:
    return set_for("simpo", "objective.gamma_ratio")(state, value / state.get("pref_beta", 0.1))


def _defaults(config: Mapping[str, Any], method: str) -> Mapping[str, Any]:
    rank = config.get("lora_rank") or 8
    stage_defaults = {"pref_beta": 0.1} if config.get("stage") in ("dpo", "kto") else {}
    is_lora = config.get("finetuning_type", "lora") == "lora"
    adapter = {"lora_rank": 8, "lora_alpha": 2 * rank, "lora_target": "all"} if is_lora else {}
    return {
        "stage": "sft",
        "finetuning_type": "lora",
        **adapter,
        **stage_defaults,
        "learning_rate": 5e-5,
        "lr_scheduler_type": "linear",
        "num_train_epochs": 3.0,
        "per_device_train_batch_size": 8,
        "cutoff_len": 2048,
        "seed": 42,
        "bf16": False,
        "report_to": "none",
        "gradient_checkpointing": not config.get("disable_gradient_checkpointing", False),
    }


def _cutoff(state: Conversion, value: Any) -> Result:
    state.set("batching.max_tokens", int(value))
    if state.choices.get("objective") not in ("supervised", "causal"):
        return "pairs that are longer are left out, and not cut"
    state.set("batching.overlong", "truncate_response")
    return "the prompt is kept and the answer cut; the tool cuts both in proportion"


LATER = "the study does not use it after training: see `instruct-lab export` and `instruct-lab chat`"
MEDIA_KEYS = "image_* video_* audio_* crop_to_patches use_audio_in_video media_dir freeze_vision_tower "
RULES: Mapping[str, Rule] = {
    **TRAINING,
    "stage": _stage,
    "finetuning_type": _tuning,
    "model_name_or_path": models.choose_model("model_revision"),
    "model_revision": Same("set with the model"),
    "template": _template,
    "dataset": read_datasets,
    "eval_dataset": Same(WITH_DATA),
    "dataset_dir": Same(WITH_DATA),
    "max_samples": Same("max_rows of each source"),
    "val_size": Same("split.validation of the data"),
    "cutoff_len": _cutoff,
    "train_on_prompt": when_on("template.train_on=all"),
    "mask_history": when_on("template.train_on=last_assistant"),
    "default_system": Different("the rows' own system messages are used"),
    "enable_thinking": Same("the tokenizer's chat template decides; template.variables sets enable_thinking"),
    "packing": PACKING,
    "neat_packing": PACKING,
    "streaming": Different("the rows are read before training, unless data.stream=true reads them in blocks"),
    "mix_strategy": Different("each row is used once an epoch; weights are those of a mixture (data=mixture)"),
    "interleave_probs": Different("set the weights of a mixture (data=mixture)"),
    "lora_rank": models.set_lora("r"),
    "lora_alpha": models.set_lora("alpha"),
    "lora_dropout": models.set_lora("dropout"),
    "lora_target": models.set_targets,
    "use_rslora": models.set_lora("use_rslora"),
    "use_dora": models.set_lora("use_dora"),
    "pissa_init": when_on("tuning.init=pissa"),
    "loraplus_lr_ratio": models.set_lora("lr_ratio"),
    "additional_target": models.train_new_modules,
    "adapter_name_or_path": Different("a new adapter is trained; merge the earlier one into the model first"),
    "quantization_bit": models.set_quantization,
    "quantization_type": Different("nf4; model.quantization.levels=fp4 with instruct_lab.model.Quantization"),
    "double_quantization": Same("weights in 4 bits have quantised scales"),
    "quantization_method": Same("bitsandbytes is used"),
    "flash_attn": set_attention,
    "disable_gradient_checkpointing": Same("see gradient_checkpointing"),
    "pure_bf16": when_on("model.dtype=bfloat16 trainer.precision=bf16-true"),
    "pref_beta": _beta,
    "pref_loss": Same("see stage"),
    "dpo_label_smoothing": set_for("dpo", "objective.label_smoothing"),
    "simpo_gamma": _gamma,
    "kto_chosen_weight": set_for("kto", "objective.desirable_weight"),
    "kto_rejected_weight": set_for("kto", "objective.undesirable_weight"),
    "pref_ftx": Different("no supervised term is added"),
    "ref_model": Different("the reference is the untuned model"),
    "use_galore": when_on("optimizer=galore"),
    "use_muon": when_on("optimizer=muon"),
    "freeze_trainable_layers": Same("set with finetuning_type"),
    "oft_block_size": Same("set with finetuning_type"),
    "oft_target": Same("every linear layer"),
    "plot_loss": Same("trackers and the record have the curves"),
    "model_max_length": Same("cutoff_len decides"),
    "resize_vocab": Same("the embeddings grow with added tokens"),
}
OWN_THEMES: Mapping[str, Rule] = {
    **THEMES,
    "galore_* apollo_* badam_* use_apollo use_badam use_adam_mini": Different(
        "choose an optimizer: instruct-lab list optimizer"
    ),
    "pissa_* loraplus_lr_embedding create_new_adapter oft_rank module_dropout": Different("the adapter's own default"),
    MEDIA_KEYS + "freeze_multi_modal_projector freeze_language_model": Different("only texts are trained on"),
    "export_* infer_* vllm_* sglang_* use_kv_cache offload_folder do_sample temperature top_* max_new_tokens "
    "max_length num_beams repetition_penalty length_penalty skip_special_tokens eval_num_beams "
    "adapter_folder": Different(LATER),
    "task task_dir lang n_shot save_dir download_mode batch_size": Different("see metrics and `instruct-lab evaluate`"),
    "ppo_* reward_model* ref_model_* pref_bco_weight ld_alpha": Different("the objective does not have it"),
    "use_*_loss asft_* eaft_* *_aux_loss_coef moe_*": Different(
        "the loss is the objective's: instruct-lab list objective"
    ),
    "swanlab_* use_swanlab": Different("choose a tracker: instruct-lab list tracker"),
    "use_unsloth* use_kt kt_* use_v1_kernels print_param_status upcast_* fp8* use_mca use_megatron_bridge use_hyper_* "
    "hyper_* megatron_* cache_dir *_hub_token device_map compute_dtype": Same("only speed and memory depend on it"),
    "*_parallel_size sequence_parallel sequence_parallel_mode use_distributed_optimizer overlap_* bias_* "
    "apply_rope_fusion recompute_* use_packed_sequences account_for_* masked_softmax_fusion cross_entropy_loss_fusion "
    "calculate_per_token_loss mixed_precision extra_config quantization_device_map "
    "master_* ray_* data_shared_file_system": Different(
        "devices are those of trainer.devices, with trainer=ddp for several"
    ),
    "tokenized_path *_profiler profiler_* profile_modules include_effective_* ignore_pad_token_for_loss "
    "compute_accuracy buffer_size eval_on_each_dataset": Same("nothing of the result depends on it"),
    "add_tokens add_special_tokens new_special_tokens_config init_special_tokens split_special_tokens tool_format "
    "preserve_thinking use_fast_tokenizer": Different(
        "see `instruct-lab list tokenizer` and `instruct-lab list template`"
    ),
    "rope_scaling shift_attn mixture_of_depths use_llama_pro freeze_* train_from_scratch block_diag_attn "
    "disable_shuffling early_stopping_steps": Different(
        "see model.rope_scaling, tuning and callbacks=[default,early_stopping]"
    ),
}
LLAMA_FACTORY = Tool(
    "LLaMA-Factory",
    RULES,
    OWN_THEMES,
    _defaults,
    frozenset(
        [
            "stage",
            "finetuning_type",
            "cutoff_len",
            "template",
            "lora_target",
            "lora_rank",
            "dataset_dir",
            "plot_loss",
            "pref_beta",
        ]
    ),
    ("stage", "finetuning_type", "dataset"),
)
