"""Names of settings in Transformers, TRL, axolotl and LLaMA-Factory, and what this framework calls them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from instruct_lab.config.options import GROUPS, option_of_repository, options
from instruct_lab.config.quoting import parse_or_none, quote_for_shell, to_hydra
from instruct_lab.errors import Problem
from instruct_lab.experiment.repositories import REPOSITORIES, reference_override

VALUE = "{value}"
MODEL_KEYS = ("model_name_or_path", "model_name", "model_id", "base_model", "pretrained_model_name_or_path")
KEYS: Mapping[tuple[str, ...], str] = {
    ("learning_rate", "lr", "base_lr"): "optimizer.lr={value}",
    ("weight_decay",): "optimizer.weight_decay={value}",
    ("adam_epsilon", "adam_eps"): "optimizer.eps={value}",
    ("adam_beta1",): "optimizer.betas=[{value},0.999]",
    ("adam_beta2",): "optimizer.betas=[0.9,{value}]",
    ("optim", "optimizer_type"): "optimizer={value}",
    ("lr_scheduler_type", "scheduler", "lr_schedule"): "lr_scheduler={value}",
    ("warmup_ratio",): "lr_scheduler.warmup_ratio={value}",
    ("warmup_steps", "num_warmup_steps"): "lr_scheduler.warmup_steps={value}",
    ("num_train_epochs", "num_epochs", "epochs", "n_epochs"): "trainer.max_epochs={value}",
    ("max_steps", "max_train_steps"): "trainer.max_steps={value}",
    ("gradient_accumulation_steps", "grad_accum_steps"): "trainer.accumulate_grad_batches={value}",
    ("max_grad_norm", "gradient_clipping", "clip_grad_norm"): "trainer.gradient_clip_val={value}",
    ("eval_steps", "eval_interval"): "trainer.val_check_interval={value}",
    ("fp16",): "trainer.precision=16-mixed",
    ("bf16",): "trainer.precision=bf16-mixed",
    ("mixed_precision",): "trainer.precision={value}",
    ("num_gpus", "n_gpu", "nproc_per_node"): "trainer.devices={value}",
    ("use_cpu", "no_cuda"): "trainer=cpu",
    ("per_device_train_batch_size", "micro_batch_size", "batch_size", "train_batch_size"): (
        "batching.batch_size={value}"
    ),
    ("auto_find_batch_size",): "batching.micro_batch=auto",
    ("max_seq_length", "max_length", "max_seq_len", "cutoff_len", "sequence_len", "seq_length", "model_max_length"): (
        "batching.max_tokens={value}"
    ),
    ("lora_r", "lora_rank", "rank"): "tuning.r={value}",
    ("lora_alpha",): "tuning.alpha={value}",
    ("lora_dropout",): "tuning.dropout={value}",
    ("lora_target_modules", "lora_target"): "tuning.target_modules={value}",
    ("use_rslora",): "tuning=rslora",
    ("use_dora",): "tuning=dora",
    ("neftune_noise_alpha",): "tuning.neftune_alpha={value}",
    ("finetuning_type", "adapter", "peft_type", "peft_method", "use_peft"): "tuning={value}",
    ("load_in_4bit",): "tuning=qlora",
    ("load_in_8bit",): "model.quantization=8bit",
    ("gradient_checkpointing", "use_gradient_checkpointing"): "model.gradient_checkpointing={value}",
    ("attn_implementation",): "model.attention={value}",
    ("torch_dtype", "dtype"): "model.dtype={value}",
    ("trust_remote_code",): "model.trust_remote_code={value}",
    MODEL_KEYS: "model=hub:{value}",
    ("dataset", "datasets", "dataset_path", "data_path", "train_file", "data_files", "dataset_name"): (
        "data=local_messages data.train.file.path={value}"
    ),
    ("val_size", "val_set_size", "validation_split", "eval_split_ratio"): "data.split.validation={value}",
    ("max_samples", "max_train_samples"): "data.limit.train={value}",
    ("stage", "rl", "task_type"): "objective={value}",
    ("sft",): "objective=supervised",
    ("beta", "dpo_beta", "pref_beta"): "objective=dpo objective.beta={value}",
    ("label_smoothing_factor", "label_smoothing"): "objective.label_smoothing={value}",
    ("output_dir", "save_dir"): "runs_path={value}",
    ("run_name", "experiment_name"): "name={value}",
    ("random_seed", "manual_seed"): "seed={value}",
    ("report_to", "logger"): "tracker={value}",
    ("wandb_project", "project_name"): "tracker.wandb.project={value}",
    ("save_steps", "save_interval", "checkpointing_steps"): "callbacks.checkpoint.every_steps={value}",
    ("metric_for_best_model",): "callbacks.checkpoint.monitor={value}",
    ("early_stopping_patience",): "callbacks=[default,early_stopping] callbacks.early_stopping.patience={value}",
    ("max_new_tokens",): "generation.max_new_tokens={value}",
    ("temperature",): "generation=sampling generation.temperature={value}",
    ("top_p",): "generation=sampling generation.top_p={value}",
    ("top_k",): "generation=sampling generation.top_k={value}",
    ("num_beams",): "generation.num_beams={value}",
    ("repetition_penalty",): "generation.repetition_penalty={value}",
}
"""Overrides of this framework, keyed by the names that other tools give to the same setting.

In an override, `{value}` stands for the value of the setting. An override without `{value}` replaces a setting that is
true.
"""

OPTIONS: Mapping[str, Mapping[str, str]] = {
    "objective": {"sft": "supervised", "clm": "causal", "pt": "causal", "pretrain": "causal", "mlm": "masked"}
    | {"rm": "reward", "reward_modeling": "reward", "hinge": "dpo_hinge", "sigmoid": "dpo", "gkd": "distillation"},
    "tuning": {"none": "full", "freeze": "train_last_layers", "prompt": "prompt_tuning", "prefix": "prefix_tuning"}
    | {"loraplus": "lora_plus", "sft": "full", "full_finetune": "full", "true": "lora", "ptuning": "p_tuning"},
    "optimizer": {"adam": "adamw", "adamw_torch": "adamw", "adamw_torch_fused": "adamw", "adamw_hf": "adamw"}
    | {"adamw_bnb_8bit": "adamw_8bit", "paged_adamw_32bit": "paged_adamw", "galore_adamw": "galore"},
    "lr_scheduler": {"constant_with_warmup": "constant", "cosine_with_restarts": "cosine_restarts"}
    | {"warmup_stable_decay": "wsd", "inverse_square_root": "inverse_sqrt", "rsqrt": "inverse_sqrt"},
    "data": {"alpaca": "local_alpaca", "sharegpt": "local_sharegpt", "messages": "local_messages"}
    | {"openai": "local_messages", "chat_template": "local_messages", "json": "local_columns", "csv": "local_columns"},
    "model": {"local": "local_folder", "hf": "local_folder", "gguf": "local_gguf", "smollm2": "smollm2_135m"},
    "template": {"default": "chat", "empty": "plain", "jinja": "chat", "tokenizer_default": "chat"},
    "generation": {"sample": "sampling", "beam_search": "beam", "nucleus": "sampling"},
    "trainer": {"cuda": "gpu", "ddp_spawn": "ddp", "default": "auto"},
    "tracker": {"false": "none", "mlflow_tracking": "mlflow", "comet": "none"},
    "pruner": {"asha": "successive_halving", "sha": "successive_halving"},
    "hydra/sweeper": {"optuna": "tpe", "bayes": "tpe", "cma": "cmaes", "basic": "grid"},
}
"""Options of this framework, keyed by group and then by the name that other tools or users give the option."""

NOT_THERE: Mapping[tuple[str, ...], str] = {
    ("packing", "sample_packing", "pack_dataset"): (
        "batching=packed lays the examples of a batch end to end, and batching=padded, the default, pads examples of "
        "similar length (batching.group_by_length); with both, a batch holds batching.batch_size examples"
    ),
    ("per_device_eval_batch_size", "eval_batch_size", "evaluation_batch_size", "generation.batch_size"): (
        "the batches of an evaluation follow from the memory; evaluation.batch_tokens limits the tokens in a batch"
    ),
    ("logging_steps", "log_interval", "log_every"): "every optimizer step is logged",
    ("resume_from_checkpoint",): "`instruct-lab resume RUN` continues a run",
    (
        "do_train",
        "do_eval",
        "do_predict",
    ): "`instruct-lab train` does all; evaluation.splits says what is measured",
}
"""What to do instead of a setting for which no override exists, keyed by the setting's names in other tools."""

_KEYS = {name: line for names, line in KEYS.items() for name in names}
_NOT_THERE = {name: reason for names, reason in NOT_THERE.items() for name in names}


def overrides_for(key: str, value: Any) -> list[str] | None:
    """Return the overrides that do in this framework what a setting does in another tool.

    The list is empty if no override is needed, because the setting switches off something that is off by default in
    this framework. The result is `None` if no override is known.

    Args:
        key: the setting's name in the other tool. Only the part after the last dot is compared with known names.
        value: the setting's value in the other tool.
    """
    name = key.rpartition(".")[2].replace("-", "_").casefold()
    line = _KEYS.get(name)
    if line is None:
        if "." in key or value is not True:
            return None
        found = [group for group in GROUPS if any(option.name == name for option in options(group))]
        return [f"{found[0]}={name}"] if len(found) == 1 else None
    if name in MODEL_KEYS:
        override = reference_override("model", str(value))
        return None if override is None else [override]
    if VALUE not in line and value in (False, None):
        return []
    return [with_value(override, value) for override in line.split()]


def overrides_of(key: str) -> str:
    """Return the overrides for another tool's setting named `key`; `{value}` in them stands for the setting's value."""
    return _KEYS[key]


def describe_as_overrides(unknown: list[str], given: list[str]) -> str:
    """Return a hint that shows how to write arguments such as `--lr 0.001`, `--lr=0.001` or `--bf16` as overrides.

    The hint is empty if there are no such arguments.

    Args:
        unknown: the arguments that the parser does not know.
        given: all arguments of the command line, in order.
    """
    lines: list[str] = []
    for argument, following in zip(given, [*given[1:], "-"], strict=True):
        if argument in unknown and argument.startswith("--"):
            name, is_assignment, value = argument.lstrip("-").partition("=")
            lines += _override_of(name, value if is_assignment else "true" if following.startswith("-") else following)
    return f"; settings are KEY=VALUE without dashes: {' '.join(map(quote_for_shell, lines))}" if lines else ""


def _override_of(name: str, text: str) -> list[str]:
    override = parse_or_none(f"key={text}")
    value = text if override is None or override.is_sweep_override() else override.value()
    overrides = overrides_for(name, value)
    return [f"{name.replace('-', '_')}={to_hydra(value)}"] if overrides is None else overrides


def with_value(override: str, value: Any) -> str:
    """Return the override with `{value}` replaced by a value.

    If the override chooses an option by the name that another tool gives it, the name is translated.
    """
    group = override.partition("=")[0]
    value = OPTIONS.get(group, {}).get(str(value).casefold(), value)
    return override.replace(VALUE, to_hydra(value))


def add_hints(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Yield the problems, with a hint added to some of them.

    If an unknown key or option is one of another tool, the hint says what to type instead in this framework.
    """
    for problem in problems:
        if problem.kind == "unknown_option":
            name = OPTIONS.get(problem.key, {}).get(str(problem.value).casefold())
            problem = dataclasses.replace(problem, suggestion=name or problem.suggestion)
            yield _named_by_repository(problem)
        elif problem.kind == "unknown_key":
            yield _hinted(problem)
        else:
            yield problem


def _named_by_repository(problem: Problem) -> Problem:
    """Return a problem about an unknown option; add a hint if the option could name a repository or a path.

    The hint is the option that uses this repository of the Hugging Face Hub or, if there is none, an override such as
    `model=hub:OWNER/NAME` or `model=path:FOLDER`. The override is not added if the problem has a suggestion already.
    """
    name = str(problem.value)
    option = option_of_repository(problem.key, name) if problem.key in REPOSITORIES else None
    if option is not None:
        return dataclasses.replace(problem, suggestion=f"{problem.key}={option.name}")
    is_name = problem.key in REPOSITORIES and not problem.suggestion
    override = reference_override(problem.key, name) if is_name else None
    if override is None:
        return problem
    line = quote_for_shell(override)
    return dataclasses.replace(problem, reason=f"{problem.reason.rstrip('.')}; to use it by name, type {line}")


def _hinted(problem: Problem) -> Problem:
    inner = problem.value.items() if isinstance(problem.value, dict) else []
    for key, value in [(problem.key, problem.value), *((f"{problem.key}.{name}", one) for name, one in inner)]:
        if (reason := _NOT_THERE.get(key) or _NOT_THERE.get(key.rpartition(".")[2])) is not None:
            return dataclasses.replace(problem, reason=f"{problem.reason}: {reason}", suggestion=None)
        overrides = overrides_for(key, value)
        if overrides == []:
            reason = "leave it out: it is off unless it is set"
            return dataclasses.replace(problem, reason=f"{problem.reason}: {reason}", suggestion=None)
        if overrides is not None and not any(override.startswith(f"{key}=") for override in overrides):
            return dataclasses.replace(problem, suggestion=" ".join(map(quote_for_shell, overrides)))
    return problem
