"""Rules for the settings of TRL's commands and scripts. Source: its config classes, version of July 2026."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instruct_lab.conversion import data, models
from instruct_lab.conversion.objectives import PAIRS, choose_loss, choose_objective, set_beta, set_for
from instruct_lab.conversion.rules import ON, Conversion, Different, Result, Rule, Same, Tool
from instruct_lab.conversion.training import PACKING, THEMES, TRAINING

METHODS = [
    "sft",
    "dpo",
    "kto",
    "reward",
    "orpo",
    "cpo",
    "grpo",
    "rloo",
    "ppo",
    "gkd",
    "bco",
    "xpo",
    "gold",
    "nash_md",
    "online_dpo",
    "prm",
]
"""Training methods: sub-commands of `trl` and names of its scripts."""
RATES = {"sft": 2e-5, "reward": 1e-4}
METHOD = "(method)"


def _method(state: Conversion, value: Any) -> Result:
    result = choose_objective(state, str(value))
    losses = state.get("loss_type", "sigmoid")
    names = losses if isinstance(losses, list) else [losses]
    if value == "dpo" and names != ["sigmoid"]:
        result = choose_loss(state, str(names[0]))
        if len(names) > 1:
            return Different("one loss at a time: the first is used")
    return result


def _tuning(state: Conversion, value: Any) -> Result:
    state.choose("tuning", "lora" if value in ON else "full")
    return None


def _dtype(state: Conversion, value: Any) -> Result:
    name = str(value)
    state.set("model.dtype", "float32" if name == "float32" else "bfloat16")
    return None if name in ("float32", "bfloat16") else f"{name}: weights are float32 or bfloat16 here"


def _dataset(state: Conversion, value: Any) -> Result:
    name = str(value)
    objective = state.choices.get("objective", "supervised")
    rows_format: tuple[str, dict[str, Any]] = ("Messages", {})
    if objective in PAIRS:
        rows_format = ("Preference", {})
    elif objective == "kto":
        rows_format = ("UnpairedPreference", {})
    split, test = state.get("dataset_train_split", "train"), state.get("dataset_test_split", "test")
    is_evaluated = str(state.get("eval_strategy", "no")) not in ("no", "False")

    def source(part: str) -> dict[str, Any]:
        if data.is_file(name):
            return data.file_source(name)
        return data.hub_source(name, None, state.get("dataset_config"), part)

    rows = [data.Rows(source(split), rows_format)]
    if is_evaluated and not data.is_file(name):
        rows.append(data.Rows(source(test), rows_format, is_held_out=True))
    data.build(state, rows, share=0.1 if is_evaluated and data.is_file(name) else 0.0)
    state.mention(f"data={state.name}")
    return (
        f"read as {rows_format[0]}, since TRL goes by the columns: if they are others, `instruct-lab check "
        f"data={'path' if data.is_file(name) else 'hub'}:{name}` recognises them, and data.format is what it prints"
    )


def _train_on(state: Conversion, value: Any) -> Result:
    if value in ON:
        return Same("only answers are trained on")
    if state.choices.get("objective") != "supervised" or state.get("completion_only_loss") in ON:
        return Same("only answers are trained on")
    state.set("template.train_on", "all")
    return "TRL trains on every token of a conversation; template.train_on=assistant only on answers"


def _length(state: Conversion, value: Any) -> Result:
    state.set("batching.max_tokens", int(value))
    if state.choices.get("objective") == "supervised":
        state.set("batching.overlong", "truncate_response")
        return None
    return "pairs that are longer are left out, and not cut"


def _defaults(config: Mapping[str, Any], method: str) -> Mapping[str, Any]:
    is_lora = config.get("use_peft") in (True, "true", "True")
    lora: dict[str, Any] = {"lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05} if is_lora else {}
    if is_lora and not config.get("lora_target_modules"):
        lora["lora_target_modules"] = models.PEFT_DEFAULT
    method = method or "sft"
    preference = {"beta": 0.1} if method in ("dpo", "kto", "orpo", "cpo") else {}
    return {
        METHOD: method,
        "use_peft": False,
        **lora,
        **preference,
        **({"assistant_only_loss": False} if method == "sft" else {}),
        "learning_rate": RATES.get(method, 1e-6),
        "num_train_epochs": 3.0,
        "per_device_train_batch_size": 8,
        "lr_scheduler_type": "linear",
        "max_length": 1024,
        "dtype": "float32",
        "bf16": config.get("fp16") not in ON,
        "gradient_checkpointing": True,
        "seed": 42,
        "report_to": "none",
    }


SEE_DATA = Same("see dataset_name")
RULES: Mapping[str, Rule] = {
    **TRAINING,
    METHOD: _method,
    "model_name_or_path": models.choose_model("model_revision"),
    "model_revision": Same("set with the model"),
    "dtype": _dtype,
    "torch_dtype": _dtype,
    "use_peft": _tuning,
    "lora_r": models.set_lora("r"),
    "lora_alpha": models.set_lora("alpha"),
    "lora_dropout": models.set_lora("dropout"),
    "lora_target_modules": models.set_targets,
    "lora_modules_to_save": models.train_new_modules,
    "lora_task_type": Same("that of the objective"),
    "use_rslora": models.set_lora("use_rslora"),
    "use_dora": models.set_lora("use_dora"),
    "load_in_4bit": models.quantize(4),
    "load_in_8bit": models.quantize(8),
    "dataset_name": _dataset,
    "dataset_config": SEE_DATA,
    "dataset_train_split": SEE_DATA,
    "dataset_test_split": SEE_DATA,
    "datasets": Different("a mixture of data sets: name them with data=mixture"),
    "dataset_streaming": Different("the rows are read before training, unless data.stream=true reads them in blocks"),
    "assistant_only_loss": _train_on,
    "completion_only_loss": Same("see assistant_only_loss"),
    "max_length": _length,
    "max_seq_length": _length,
    "packing": PACKING,
    "eval_packing": PACKING,
    "loss_type": Same("set with the method"),
    "beta": set_beta,
    "label_smoothing": set_for("dpo", "objective.label_smoothing"),
    "desirable_weight": set_for("kto", "objective.desirable_weight"),
    "undesirable_weight": set_for("kto", "objective.undesirable_weight"),
    "center_rewards_coefficient": set_for("reward", "objective.centering"),
    "config": Same("read"),
    "config_file": Different("devices are those of trainer.devices, with trainer=ddp for several"),
}
OWN_THEMES: Mapping[str, Rule] = {
    **THEMES,
    "truncation_mode max_prompt_length max_completion_length": Different(
        "batching.max_tokens and batching.overlong limit"
    ),
    "shuffle_dataset padding_free packing_strategy pad_to_multiple_of activation_offloading dataset_num_proc "
    "precompute_* train_sampling_strategy use_liger_loss": Same("the result does not depend on it"),
    "bnb_4bit_* use_bnb_nested_quant": Same("nf4 with quantised scales, computed in model.dtype"),
    "chat_template_path eos_token pad_token chat_template_kwargs": Different(
        "see template.jinja and `instruct-lab list tokenizer`"
    ),
    "dataset_text_field dataset_kwargs": Different("columns are those of data.format"),
    "lora_target_parameters model_init_kwargs router_aux_loss_coef": Different("not to be set here"),
    "vllm_* use_vllm num_generations* *_completions* log_* generation_batch_size generation_kwargs "
    "steps_per_generation temperature top_* min_p "
    "epsilon* delta *_entropy* entropy_* reward_* scale_rewards num_iterations importance_* mask_truncated_completions "
    "missing_eos_penalty cache_implementation repetition_penalty max_new_tokens *_tool_calling_* use_transformers_* "
    "rollout_* *_group_* vespo_* sapo_* off_policy_* use_bias_* multi_objective_* judge* stop_token": Different(
        "answers are not generated and rewarded in training here"
    ),
    "sync_ref_model ref_model_* loss_weights ld_alpha f_divergence_* f_alpha_* use_weighting discopop_tau": Different(
        "the reference is the untuned model, and the loss that of the objective"
    ),
    "disable_dropout": Same("dropout is that of the model and of tuning.dropout"),
    "teacher_* distillation_* lmbda gkd_* tpo_*": Different("see objective=distillation"),
    "ignore_bias_buffers trackio_* project env": Same("nothing depends on it here"),
}
TRL = Tool(
    "TRL",
    RULES,
    OWN_THEMES,
    _defaults,
    frozenset(
        [
            "dataset_name",
            "use_peft",
            "assistant_only_loss",
            "dataset_config",
            "dataset_train_split",
            "max_length",
            "lora_r",
            "dtype",
        ]
    ),
    (METHOD, "use_peft"),
)
