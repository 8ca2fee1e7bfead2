"""Rules that convert the settings of TRL's commands and scripts. Source: its config classes, version of July 2026."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instruct_lab.conversion import models, trl_data
from instruct_lab.conversion.objectives import OTHER_METHODS, choose_loss, choose_objective, set_beta, set_for
from instruct_lab.conversion.rules import ON, Conversion, Different, Result, Rule, RuleFunction, Same, Tool
from instruct_lab.conversion.training import PACKING, TRAINING, set_attention
from instruct_lab.conversion.trl_themes import TRL_THEMES

METHODS = [
    *("sft", "dpo", "kto", "reward", "orpo", "cpo", *OTHER_METHODS),
    *("grpo", "rloo", "ppo", "xpo", "nash_md", "online_dpo", "async_grpo", "grpo_with_replay_buffer", "gmpo", "gfpo"),
    *("a2po", "papo", "sdft", "sdpo", "ssd"),
]
"""Names of TRL's training methods; the subcommands of `trl` have these names, and its scripts' names contain them."""
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
    if value == "cpo" and names == ["simpo"]:
        return choose_loss(state, "simpo")
    if value == "cpo" and names != ["sigmoid"]:
        return Different(f"there is no CPO with the loss {names[0]} here; its usual loss is used")
    if not state.method:
        return "no method is in the names of file and folder: for DPO, type instruct-lab convert trl dpo --config FILE"
    return result


def _gamma(state: Conversion, value: Any) -> Result:
    return set_for("simpo", "objective.gamma_ratio")(state, value / state.get("beta", 0.1))


def _cloning(state: Conversion, value: Any) -> Result:
    if state.choices.get("objective") == "simpo" and value:
        return Different("SimPO has no second term here, as with cpo_alpha 0")
    return set_for("cpo", "objective.cloning_weight")(state, value)


def _jinja(state: Conversion, value: Any) -> Result:
    text = str(value)
    if "{" not in text:
        return Different("the tokenizer's own chat template is used; template.jinja sets another one")
    state.choose("template", "chat")
    state.set("template.jinja", text)
    return None


def _wandb(field: str) -> RuleFunction:
    """Return a rule that sets a field of the tracker Weights & Biases (`wandb`) if the study uses this tracker."""

    def rule(state: Conversion, value: Any) -> Result:
        if "wandb" not in state.choices.get("tracker", ""):
            return Same("wandb is not used")
        state.set(f"tracker.wandb.{field}", str(value))
        return None

    return rule


def _tuning(state: Conversion, value: Any) -> Result:
    state.choose("tuning", "lora" if value in ON else "full")
    return None


def _flash_attention(state: Conversion, value: Any) -> Result:
    return set_attention(state, "flash_attention_2" if value in ON else "sdpa")


def _dtype(state: Conversion, value: Any) -> Result:
    name = str(value)
    state.set("model.dtype", "float32" if name == "float32" else "bfloat16")
    return None if name in ("float32", "bfloat16") else f"{name}: weights are float32 or bfloat16 here"


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
        **({"simpo_gamma": 0.5, "cpo_alpha": 1.0} if config.get("loss_type") == "simpo" else {}),
        **({"assistant_only_loss": False} if method == "sft" else {}),
        "learning_rate": RATES.get(method, 1e-6),
        "num_train_epochs": 3.0,
        "per_device_train_batch_size": 8,
        "lr_scheduler_type": "linear",
        **({} if config.get("max_seq_length") else {"max_length": 1024}),  # an earlier name
        **({} if config.get("torch_dtype") else {"dtype": "float32"}),  # an earlier name
        "bf16": config.get("fp16") not in ON,
        "gradient_checkpointing": True,
        "seed": 42,
        "report_to": "none",
    }


SEE_DATA = Same("see dataset_name")
STREAMED = Different("the rows are read before training, unless data.stream=true reads them in blocks")
RULES: Mapping[str, Rule] = {
    **TRAINING,
    METHOD: _method,
    "model_name_or_path": models.choose_model("model_revision"),
    "model_name": models.choose_model("model_revision"),
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
    "dataset_name": trl_data.read_one,
    "dataset_config": SEE_DATA,
    "dataset_train_split": SEE_DATA,
    "dataset_test_split": SEE_DATA,
    "datasets": trl_data.read_several,
    "dataset_mixture": trl_data.read_mixture,
    "dataset_mixer": trl_data.read_mixer,
    "dataset_splits": Same("see dataset_mixer"),
    "dataset_configs": Same("see dataset_mixer"),
    "test_split_size": Same("split.validation of the data"),
    "dataset_streaming": STREAMED,
    "streaming": STREAMED,
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
    "simpo_gamma": _gamma,
    "cpo_alpha": _cloning,
    "chat_template": _jinja,
    "use_flash_attention_2": _flash_attention,
    "wandb_project": _wandb("project"),
    "wandb_entity": _wandb("entity"),
    "config": Same("read"),
    "config_file": Different("devices are those of trainer.devices, with trainer=ddp for several"),
}
TRL = Tool(
    "TRL",
    RULES,
    TRL_THEMES,
    _defaults,
    frozenset(
        [
            "dataset_name",
            "dataset_mixture",
            "dataset_mixer",
            "max_prompt_length",
            "max_seq_length",
            "torch_dtype",
            "use_peft",
            "assistant_only_loss",
            "dataset_config",
            "dataset_train_split",
            "max_length",
            "lora_r",
            "dtype",
        ]
    ),
    (METHOD, "use_peft", "dataset_name", *trl_data.SEVERAL, "report_to"),
)
