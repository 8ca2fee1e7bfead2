"""Rules that convert the settings of the Transformers trainer, which both LLaMA-Factory and TRL use."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from typing import Any

from instruct_lab.conversion.rules import ON, Conversion, Different, Result, Rule, RuleFunction, Same
from instruct_lab.experiment.other_tools import overrides_of

SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant",
    "cosine_with_restarts": "cosine_restarts",
    "cosine_with_min_lr": "cosine",
    "polynomial": "polynomial",
    "inverse_sqrt": "inverse_sqrt",
    "warmup_stable_decay": "wsd",
}
OPTIMIZERS = {
    "adamw": "adamw adamw_torch adamw_torch_fused adamw_hf adamw_apex_fused adamw_torch_npu_fused adamw_torch_xla",
    "adamw_8bit": "adamw_8bit adamw_bnb_8bit adamw_torch_8bit",
    "paged_adamw": "paged_adamw_32bit paged_adamw",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "lion": "lion lion_32bit lion_pytorch lion_8bit paged_lion_32bit paged_lion_8bit",
    "galore": "galore_adamw galore_adamw_8bit galore_adamw_layerwise",
    "muon": "muon",
    "schedule_free_adamw": "schedule_free_adamw",
}
_OPTIMIZERS = {name: option for option, names in OPTIMIZERS.items() for name in names.split()}
OPTIMIZER_NOTES = {
    "adafactor": "here its steps are relative to the size of the weights: choose optimizer.lr again",
    "galore": "its learning rate is AdamW's divided by scale: choose optimizer.lr again",
    "muon": "matrices outside the layers are updated by AdamW",
}
SCHEDULE_KEYS = "see the schedule"


def choose_optimizer(state: Conversion, value: Any) -> Result:
    """Choose the optimizer with the given name; if this framework lacks it, choose AdamW and report this."""
    name = str(value).rpartition(".")[2].casefold()
    option = _OPTIMIZERS.get(name)
    if option is None:
        state.choose("optimizer", "adamw")
        return Different(f"there is no optimizer {name} here; AdamW is used: choose optimizer.lr again")
    state.choose("optimizer", option)
    if option == "lion" and "8bit" in name:
        return "the states keep 32 bits"
    return OPTIMIZER_NOTES.get(option)


def choose_schedule(state: Conversion, value: Any) -> Result:
    """Choose the learning-rate schedule with the given name, and set its warm-up and other arguments.

    If this framework lacks the schedule, choose a cosine schedule and report this.
    """
    name = str(value).rpartition(".")[2].casefold()
    option = SCHEDULES.get(name)
    state.choose("lr_scheduler", option or "cosine")
    note = _set_warmup(state, name)
    extra = state.get("lr_scheduler_kwargs", {})
    extra = extra if isinstance(extra, Mapping) else {}
    rate = state.get("learning_rate")
    if option is None:
        return Different(f"there is no schedule {name} here; a cosine is used")
    if name == "cosine_with_restarts":
        state.set("lr_scheduler.cycles", int(extra.get("num_cycles", 1)))
    elif name == "cosine_with_min_lr":
        ratio = extra.get("min_lr_rate") or (extra["min_lr"] / rate if extra.get("min_lr") and rate else 0.0)
        state.set("lr_scheduler.min_ratio", float(ratio))
    elif name == "polynomial":
        state.set("lr_scheduler.power", float(extra.get("power", 1.0)))
        end = float(extra.get("lr_end", 1e-7))
        state.set("lr_scheduler.min_ratio", end / rate if rate else 0.0)
    elif name == "inverse_sqrt" and extra.get("timescale"):
        state.set("lr_scheduler.timescale", int(extra["timescale"]))
    elif name == "warmup_stable_decay":
        shape = {"1-sqrt": "1-sqrt", "linear": "linear"}.get(str(extra.get("decay_type", "cosine")), "cosine")
        state.set("lr_scheduler.decay_shape", shape)
        total = state.get("max_steps", -1)
        if total > 0 and extra.get("num_decay_steps"):
            state.set("lr_scheduler.decay_ratio", extra["num_decay_steps"] / total)
        else:
            note = "the decay takes the last fifth of the steps: set lr_scheduler.decay_ratio"
    return note


def _set_warmup(state: Conversion, name: str) -> str | None:
    """Set the warm-up of the learning-rate schedule `name`; return a note for the report, or `None` if none is needed.

    As in Transformers, `warmup_steps` takes precedence over `warmup_ratio`, and `warmup_steps` below 1 is a ratio.
    """
    steps, ratio = state.get("warmup_steps", 0), state.get("warmup_ratio", 0)
    if name == "constant":
        state.set("lr_scheduler.warmup_ratio", 0.0)
        return "without warm-up, as there: constant_with_warmup has one" if steps or ratio else None
    if steps >= 1:
        state.set("lr_scheduler.warmup_ratio", None)
        state.set("lr_scheduler.warmup_steps", int(steps))
    else:
        state.set("lr_scheduler.warmup_ratio", float(steps or ratio))
    return None


def when_on(overrides: str, off: str = "switched off") -> RuleFunction:
    """Return a rule for a setting that is either on or off.

    Args:
        overrides: the overrides to add if the setting is on, separated by spaces.
        off: why nothing has to be set if the setting is off.
    """

    def rule(state: Conversion, value: Any) -> Result:
        if value not in ON:
            return Same(off)
        for override in overrides.split():
            state.apply(override)
        return None

    return rule


def follow_schedule(state: Conversion, value: Any) -> Result:
    """Report that a setting is part of the learning-rate schedule, which `choose_schedule` converts as a whole."""
    return Same("set with the schedule")


def set_epochs(state: Conversion, value: Any) -> Result:
    """Set the number of epochs, rounded up (below 1: a part of one epoch), unless the config sets a number of steps."""
    if state.get("max_steps", -1) > 0:
        return Same("max_steps decides, as there")
    state.set("trainer.max_epochs", max(1, math.ceil(value)))
    if value < 1:
        state.set("trainer.limit_train_batches", float(value))
        return "a part of an epoch is a share of its batches"
    return None if value == int(value) else Different(f"epochs are whole here: {math.ceil(value)}")


def set_steps(state: Conversion, value: Any) -> Result:
    """Set the number of optimizer steps, and remove the limit on epochs, so that the data is repeated if necessary."""
    if value <= 0:
        return Same("no limit")
    state.set("trainer.max_steps", int(value))
    state.set("trainer.max_epochs", -1)
    return None


def set_betas(state: Conversion, value: Any) -> Result:
    """Set both betas of Adam; this is the rule of `adam_beta1` and of `adam_beta2`."""
    state.set("optimizer.betas", [state.get("adam_beta1", 0.9), state.get("adam_beta2", 0.999)])
    return None


def set_bfloat16(state: Conversion, value: Any) -> Result:
    """Set the precision of the run from the setting `bf16`: bfloat16 if it is true, float32 if it is false.

    If it is `auto`, the run uses bfloat16 if the device supports it. Unless it is true, `fp16` takes precedence.
    """
    if state.get("fp16") in ON and value not in (True, "true"):
        return Same("fp16 is set")
    if value in (True, "true", "True"):
        state.set("trainer.precision", "bf16-mixed")
    elif value == "auto":
        state.set("trainer.precision", None)
        return "bfloat16 if the device computes it"
    else:
        state.set("trainer.precision", "32-true")
    return None


def set_float16(state: Conversion, value: Any) -> Result:
    """Set the precision of the run to float16 if the setting `fp16` is on and `bf16` is not."""
    if value not in ON:
        return Same("switched off")
    if state.get("bf16") in (True, "true"):
        return Same("bf16 is set")
    state.set("trainer.precision", "16-mixed")
    return "needs a GPU"


def set_attention(state: Conversion, value: Any) -> Result:
    """Choose the implementation of attention with the given name.

    If the name is unknown in this framework or the necessary package is not installed, choose PyTorch's implementation.
    """
    name = str(value).casefold()
    known = {"fa2": "flash_attention_2", "disabled": "eager", "auto": "sdpa", "flash_attention": "flash_attention_2"}
    known |= {name: name for name in ("sdpa", "eager", "flash_attention_2", "flex_attention")}
    option = known.get(name)
    if option == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        state.set("model.attention", "sdpa")
        return "the package flash_attn is not installed; PyTorch's attention computes the same"
    state.set("model.attention", option or "sdpa")
    return None if option else Different(f"{name} is not to be had; PyTorch's attention computes the same")


def set_evaluation_steps(state: Conversion, value: Any) -> Result:
    """Set how often validation takes place.

    A number of optimizer steps is converted to a number of batches, and a fraction of all steps to one of an epoch.
    """
    strategy = str(state.get("eval_strategy", state.get("evaluation_strategy", "steps")))
    if not state.has_held_out or strategy in ("no", "False"):
        return Same("nothing is evaluated during training")
    if strategy == "epoch":
        return Same("eval_strategy is epoch")
    batches = state.get("gradient_accumulation_steps", 1)
    if value < 1:
        share = value * max(1, state.get("num_train_epochs", state.get("num_epochs", 1)))
        state.set("trainer.val_check_interval", min(1.0, float(share)))
        return "a share of all steps is a share of an epoch here"
    state.set("trainer.val_check_interval", int(value * batches))
    state.set("trainer.check_val_every_n_epoch", None)
    return f"{int(value)} optimizer steps are {int(value * batches)} batches" if batches > 1 else None


def set_evaluation_strategy(state: Conversion, value: Any) -> Result:
    """Set when validation takes place: after each epoch, or each time a given number of batches has been trained on."""
    if str(value) == "epoch" and state.has_held_out:
        state.set("trainer.val_check_interval", 1.0)
        return None
    if str(value) in ("no", "False"):
        return Same("held-out rows, if there are any, are measured before and after training")
    if state.get("eval_steps") is None:
        return set_evaluation_steps(state, state.get("logging_steps", 500))  # the defaults of Transformers
    return Same("eval_steps decides")


def choose_tracker(state: Conversion, value: Any) -> Result:
    """Choose those of the given trackers that this framework has, and report that the others are not used."""
    names = value if isinstance(value, list) else str(value).replace(",", " ").split()
    known = [str(name) for name in names if str(name) in ("wandb", "tensorboard", "trackio", "mlflow")]
    state.choose("tracker", f"[{','.join(known)}]" if len(known) > 1 else known[0] if known else "none")
    if "all" in names:
        return "only the record of the run is kept; choose trackers with tracker=[wandb,tensorboard]"
    left = [str(name) for name in names if str(name) not in ("none", *known)]
    return Different(f"not used: {', '.join(left)} (instruct-lab list tracker)") if left else None


def set_checkpoint_steps(state: Conversion, value: Any) -> Result:
    """Set the number of optimizer steps after which a checkpoint for resuming the training is saved."""
    if value < 1 or str(state.get("save_strategy", "steps")) != "steps":
        return Same("save_strategy decides" if value >= 1 else "a state is saved every 25 steps")
    state.set("callbacks.checkpoint.every_steps", int(value))
    return None


def name_run(state: Conversion, value: Any) -> Result:
    """Set the run's name; characters other than letters, digits, `-`, `_` and `.` are replaced by underscores."""
    state.set("name", "".join(c if c.isalnum() or c in "-_." else "_" for c in str(value)).strip(".") or state.name)
    return None


TRACKED = (
    "per_device_train_batch_size gradient_accumulation_steps learning_rate weight_decay max_grad_norm adam_epsilon"
)
LIKE_COMMAND_LINE = f"{TRACKED} neftune_noise_alpha"
NEXT_PUSH = "after training: instruct-lab push RUN OWNER/NAME"
TRAINING: Mapping[str, Rule] = {
    **{key: overrides_of(key) for key in LIKE_COMMAND_LINE.split()},
    "seed": "seed={value}",
    "num_train_epochs": set_epochs,
    "max_steps": set_steps,
    "lr_scheduler_type": choose_schedule,
    "lr_scheduler_kwargs": follow_schedule,
    "warmup_ratio": follow_schedule,
    "warmup_steps": follow_schedule,
    "optim": choose_optimizer,
    "adam_beta1": set_betas,
    "adam_beta2": set_betas,
    "bf16": set_bfloat16,
    "fp16": set_float16,
    "eval_steps": set_evaluation_steps,
    "eval_strategy": set_evaluation_strategy,
    "evaluation_strategy": set_evaluation_strategy,
    "save_steps": set_checkpoint_steps,
    "report_to": choose_tracker,
    "run_name": name_run,
    "trust_remote_code": Same(
        "the model is loaded without code of its repository; model.trust_remote_code=true runs it"
    ),
    "gradient_checkpointing": overrides_of("gradient_checkpointing"),
    "attn_implementation": set_attention,
    "output_dir": Same("the record of each run is in runs/NAME/RUN; runs_path names another folder"),
    "do_train": Same("train trains, and measures before and after"),
    "do_eval": Same("held-out rows are measured before and after training"),
    "do_predict": Same("the record holds the answers to held-out prompts"),
    "overwrite_output_dir": Same("each run has a folder of its own"),
    "logging_strategy": Same("every optimizer step is logged"),
    "logging_steps": Same("every optimizer step is logged"),
    "logging_first_step": Same("the first step is logged"),
    "logging_dir": Same("trackers write below runs_path"),
    "save_strategy": Same("training states are saved at steps and at the end"),
    "save_total_limit": Same("the newest states and the best weights are kept"),
    "save_only_model": Same("training states are always saved, so that a run can be resumed"),
    "save_safetensors": Same("weights are always safetensors"),
    "load_best_model_at_end": Same("the best weights are used and exported (evaluation.checkpoint)"),
    "metric_for_best_model": Different("the validation loss decides: set callbacks.checkpoint.monitor"),
    "greater_is_better": Same("metrics declare their direction"),
    "resume_from_checkpoint": Different("a new run starts; `instruct-lab resume RUN` continues one"),
    "push_to_hub": Different(NEXT_PUSH),
    "group_by_length": Same("examples of similar length are batched together; their order does not depend on it"),
    "length_column_name": Same("lengths are computed"),
    "tf32": Same("only the speed and rounding of float32 products depend on it"),
    "use_cpu": when_on("trainer=cpu"),
    "no_cuda": when_on("trainer=cpu"),
    "data_seed": Different("seed governs the order of examples too"),
    "full_determinism": Same("runs are reproducible: instruct-lab reproduce RUN"),
    "label_smoothing_factor": overrides_of("label_smoothing_factor"),
    "remove_unused_columns": Same("a format reads the columns that it names"),
    "ignore_data_skip": Same("a resumed run continues at its position"),
    "auto_find_batch_size": Same("a batch that exhausts memory is computed in parts, and the step stays the same"),
}
PACKING = Different(
    "a batch has batching.batch_size examples (end to end with batching=packed), so a step sees fewer tokens than there"
)
THEMES: Mapping[str, Rule] = {
    "per_device_eval_batch_size eval_batch_size": Same(
        "results do not depend on it; evaluation.batch_tokens limits the batches of an evaluation"
    ),
    "dataloader_* preprocessing_num_workers preprocessing_batch_size dataset_num_proc overwrite_cache": Same(
        "only the speed depends on it; the number of processes is chosen by the data"
    ),
    "gradient_checkpointing_kwargs use_reentrant_gc torch_empty_cache_steps low_cpu_mem_usage use_cache "
    "activation_checkpointing* *_full_eval": Same("only memory and speed depend on it"),
    "ddp_* local_rank deepspeed fsdp fsdp_* parallelism_config accelerator_config": Different(
        "devices are those of trainer.devices, with trainer=ddp for several; trainer=fsdp divides weights among them"
    ),
    "hub_model_id hub_strategy hub_token hub_private_repo hub_always_push hub_revision push_to_hub_model_id "
    "push_to_hub_organization push_to_hub_token": Different(NEXT_PUSH),
    "use_liger_kernel enable_liger_kernel liger_kernel_config torch_compile torch_compile_* jit_mode_eval": Same(
        "kernels change the speed, not what is computed"
    ),
    "eval_accumulation_steps eval_delay eval_on_start eval_do_concat_batches batch_eval_metrics prediction_loss_only "
    "include_for_metrics include_num_input_tokens_seen average_tokens_across_devices label_names disable_tqdm "
    "log_level log_level_replica log_on_each_node logging_nan_inf_filter skip_memory_metrics use_legacy_* restore_* "
    "eval_use_gather_object save_on_each_node enable_jit_checkpoint train_sampling_strategy project trackio_* debug": (
        Same("nothing depends on it here")
    ),
    "optim_args optim_target_modules": Different("set the fields of the optimizer (instruct-lab list optimizer)"),
    "predict_with_generate generation_max_length generation_num_beams generation_config": Same(
        "answers to held-out prompts are always generated"
    ),
}
