"""Rules that convert the settings of axolotl. Source: its `utils/schemas`, version of July 2026."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instruct_lab.conversion import models
from instruct_lab.conversion.axolotl_data import read_datasets
from instruct_lab.conversion.axolotl_themes import AXOLOTL_THEMES
from instruct_lab.conversion.objectives import choose_objective, set_beta, set_for
from instruct_lab.conversion.rules import ON, Conversion, Different, Result, Rule, RuleFunction, Same, Tool
from instruct_lab.conversion.training import (
    TRAINING,
    choose_optimizer,
    choose_schedule,
    name_run,
    set_attention,
    set_epochs,
    when_on,
)
from instruct_lab.experiment.other_tools import overrides_of

DEFAULT_WARMUP = 0.03
OVERLONG = {"drop": "drop", "truncate": "truncate_response", "raise": "error"}


def _tuning(state: Conversion, value: Any) -> Result:
    is_lora = value in ("lora", "qlora")
    layers = state.get("unfrozen_parameters")
    if is_lora:
        state.choose("tuning", "lora")
    elif layers:
        state.choose("tuning", "train_last_layers")
        state.set("tuning.last_layers", 0)
        state.set("tuning.pattern", "|".join(f"(?:{pattern})" for pattern in layers))
    else:
        state.choose("tuning", "full")
    is_quantized = state.get("load_in_4bit") in ON or state.get("load_in_8bit") in ON
    if is_lora and not is_quantized and state.get("bf16") in ON:
        state.set("model.dtype", "bfloat16")
    if not is_lora and value != "none":
        return Different(f"there is no adapter {value}; all weights train")
    if not is_lora and state.get("bf16") in ON:
        return "weights stay in float32; model.dtype=bfloat16 trainer.precision=bf16-true rounds them, as there"
    return None


def _rank(state: Conversion, value: Any) -> Result:
    return models.set_lora("r")(state, value) if value else Same("no adapter")


def _linear(state: Conversion, value: Any) -> Result:
    if not models.is_adapter(state) or value not in ON:
        return Same("lora_target_modules decides")
    state.set("tuning.target_modules", "all-linear")
    return None


def _method(state: Conversion, value: Any) -> Result:
    method = str(value).casefold()
    result = choose_objective(state, method)
    if state.get("rl_beta"):
        set_beta(state, state.get("rl_beta"))
    elif method == "orpo" and state.get("orpo_alpha"):
        state.set("objective.weight", state.get("orpo_alpha"))
    return result


def _batch_size(state: Conversion, value: Any) -> Result:
    micro = state.get("micro_batch_size", 1)
    if state.get("gradient_accumulation_steps"):
        return Same("micro_batch_size × gradient_accumulation_steps decides")
    state.set("trainer.accumulate_grad_batches", max(1, int(value // micro)))
    return None


def _evaluations(state: Conversion, value: Any) -> Result:
    if not state.has_held_out or not value:
        return Same("nothing is evaluated during training")
    state.set("trainer.val_check_interval", 1.0 / value)
    return None


def _packing(state: Conversion, value: Any) -> Result:
    if value not in ON:
        return Same("switched off, as here")
    size, length = state.get("micro_batch_size", 1), state.get("sequence_len", 512)
    return Different(
        f"there a batch holds up to {size} × {length:,} tokens of several examples, here {size} examples (end to end "
        "with batching=packed), so a step sees fewer tokens: raise batching.batch_size and choose optimizer.lr again"
    )


def _template(state: Conversion, value: Any) -> Result:
    name = str(value)
    option = {"chatml": "chatml", "alpaca": "alpaca"}.get(name, "chat")
    if state.choices.get("template") in ("alpaca", "plain", "contents"):
        return Same("the type of the data sets decides")
    state.choose("template", option)
    if name == "jinja" and state.get("chat_template_jinja"):
        return None
    if option == "chat" and not name.startswith("tokenizer_default"):
        return f"the tokenizer's own chat template, and not the tool's copy {name}: look with `instruct-lab inspect`"
    return None


def _jinja(state: Conversion, value: Any) -> Result:
    state.choose("template", "chat")
    state.set("template.jinja", str(value))
    return None


def _overlong(state: Conversion, value: Any) -> Result:
    option = OVERLONG.get(str(value), "drop")
    is_cut = option == "truncate_response" and state.choices.get("objective") != "supervised"
    state.set("batching.overlong", "drop" if is_cut else option)
    return "pairs that are longer are left out, and not cut" if is_cut else None


def _group(name: str) -> RuleFunction:
    def rule(state: Conversion, value: Any) -> Result:
        if value not in ON:
            return Same("switched off")
        return set_attention(state, name)

    return rule


def _wandb(state: Conversion, value: Any) -> Result:
    state.choose("tracker", "wandb")
    state.set("tracker.wandb.project", str(value))
    return None


def _entity(state: Conversion, value: Any) -> Result:
    if not state.get("wandb_project"):
        return Same("wandb is not used")
    state.set("tracker.wandb.entity", str(value))
    return None


def _checkpointing(state: Conversion, value: Any) -> Result:
    state.set("model.gradient_checkpointing", bool(value))
    return "activations are not moved to the CPU's memory" if isinstance(value, str) and value not in ON else None


def _early_stopping(state: Conversion, value: Any) -> Result:
    return Different(f"callbacks=[default,early_stopping] callbacks.early_stopping.patience={value}")


def _defaults(config: Mapping[str, Any], method: str) -> Mapping[str, Any]:
    has_warmup = config.get("warmup_steps") is not None or config.get("warmup_ratio") is not None
    batch_size = {} if config.get("batch_size") else {"gradient_accumulation_steps": 1}
    lora = {"lora_dropout": 0.0} if config.get("adapter") in ("lora", "qlora") else {}
    has_objective = config.get("rl") or config.get("reward_model")
    return {
        **({} if config.get("adapter") else {"adapter": "none"}),
        **({} if has_objective else {"rl": "sft"}),
        **lora,
        **({} if has_warmup else {"warmup_ratio": DEFAULT_WARMUP}),
        **batch_size,
        "micro_batch_size": 1,
        "num_epochs": 1.0,
        "sequence_len": 512,
        "excess_length_strategy": "drop",
        "lr_scheduler": "cosine",
        "optimizer": "adamw_torch_fused",
        "max_grad_norm": 1.0,
        "seed": 42,
    }


SEE_DATA = "see the rows of datasets"
RULES: Mapping[str, Rule] = {
    **{
        key: rule
        for key, rule in TRAINING.items()
        if not key.startswith(("per_device_", "num_train_", "optim", "report_"))
    },
    "base_model": models.choose_model("revision_of_model"),
    "revision_of_model": Same("set with base_model"),
    "adapter": _tuning,
    "rl": _method,
    "reward_model": when_on("objective=reward metrics=preference"),
    "load_in_4bit": models.quantize(4),
    "load_in_8bit": models.quantize(8),
    "lora_r": _rank,
    "lora_alpha": models.set_lora("alpha"),
    "lora_dropout": models.set_lora("dropout"),
    "lora_target_modules": models.set_targets,
    "lora_target_linear": _linear,
    "lora_modules_to_save": models.train_new_modules,
    "peft_use_dora": models.set_lora("use_dora"),
    "peft_use_rslora": models.set_lora("use_rslora"),
    "loraplus_lr_ratio": models.set_lora("lr_ratio"),
    "lora_model_dir": Different("a new adapter is trained; merge the earlier one into the model first"),
    "unfrozen_parameters": Same("set with adapter"),
    "micro_batch_size": overrides_of("micro_batch_size"),
    "batch_size": _batch_size,
    "num_epochs": set_epochs,
    "optimizer": choose_optimizer,
    "lr_scheduler": choose_schedule,
    "cosine_min_lr_ratio": "lr_scheduler.min_ratio={value}",
    "sequence_len": overrides_of("sequence_len"),
    "excess_length_strategy": _overlong,
    "sample_packing": _packing,
    "eval_sample_packing": Same("evaluation measures each example"),
    "pad_to_sequence_len": Same("batches are padded to their longest example; padding is not trained on"),
    "datasets": read_datasets,
    "pretraining_dataset": read_datasets,
    "test_datasets": Same(SEE_DATA),
    "val_set_size": Same("split.validation of the data"),
    "chat_template": _template,
    "chat_template_jinja": _jinja,
    "train_on_inputs": when_on("template.train_on=all", off="only answers are trained on, as here"),
    "default_system_message": Different("the rows' own system messages are used"),
    "special_tokens": Different("the tokenizer's own special tokens are used: see `instruct-lab list tokenizer`"),
    "eot_tokens": Same("the token with which the template ends an answer is trained on"),
    "tokens": Different("add tokens with model.tokenizer: see `instruct-lab list tokenizer`"),
    "flash_attention": _group("flash_attention_2"),
    "sdp_attention": _group("sdpa"),
    "eager_attention": _group("eager"),
    "flex_attention": _group("flex_attention"),
    "xformers_attention": _group("xformers"),
    "gradient_checkpointing": _checkpointing,
    "evals_per_epoch": _evaluations,
    "saves_per_epoch": Same("a training state is saved every 25 steps (callbacks.checkpoint.every_steps)"),
    "early_stopping_patience": _early_stopping,
    "wandb_project": _wandb,
    "wandb_entity": _entity,
    "wandb_name": name_run,
    "use_wandb": when_on("tracker=wandb"),
    "use_tensorboard": when_on("tracker=tensorboard"),
    "use_mlflow": when_on("tracker=mlflow"),
    "use_trackio": when_on("tracker=trackio"),
    "dataset_exact_deduplication": when_on("preprocessing/step=[deduplicate]"),
    "shuffle_merged_datasets": Same("examples are shuffled"),
    "center_rewards_coefficient": set_for("reward", "objective.centering"),
    "rl_beta": Same("set with rl"),
    "orpo_alpha": Same("set with rl"),
    "noisy_embedding_alpha": overrides_of("neftune_noise_alpha"),
    "model_type": Same("the family is that of the model option"),
    "type_of_model": Same("the family is that of the model option"),
    "tokenizer_type": Same("the model's own tokenizer"),
    "torch_dtype": Same("see adapter"),
    "bfloat16": Same("see bf16"),
    "float16": Same("see fp16"),
}
AXOLOTL = Tool(
    "axolotl",
    RULES,
    AXOLOTL_THEMES,
    _defaults,
    frozenset(
        [
            "base_model",
            "micro_batch_size",
            "sequence_len",
            "sample_packing",
            "datasets",
            "adapter",
            "val_set_size",
            "saves_per_epoch",
        ]
    ),
    ("rl", "reward_model", "adapter", "lora_target_modules", "datasets", "pretraining_dataset", "chat_template"),
)
