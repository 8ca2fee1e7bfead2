"""Rules about the engine that decodes answers: report models and devices that it does not support."""

from __future__ import annotations

from collections.abc import Iterator

from instruct_lab.config import ExternalClass
from instruct_lab.errors import Problem
from instruct_lab.experiment.rules.sharding import FSDP
from instruct_lab.generation import Generation
from instruct_lab.generation.engines import NATIVE
from instruct_lab.model import Model
from instruct_lab.tuning import Tuning
from instruct_lab.tuning.engine_files import unreadable_by_engine


def check_engine(generation: Generation, model: Model, tuning: Tuning) -> Iterator[Problem]:
    """Report a decoding engine that cannot run the model or cannot load what the tuning method trains."""
    engine = generation.engine
    reason = None if engine == NATIVE else _reason(engine, model, tuning)
    if reason is not None:
        reason = f"{engine} cannot decode here: {reason}"
        yield Problem(key="generation.engine", value=engine, reason=reason, suggestion=NATIVE)


def _reason(engine: str, model: Model, tuning: Tuning) -> str | None:
    if model.family != "decoder":
        return f"it runs decoders, and the model's family is {model.family}"
    if tuning.num_added_positions:
        return f"it reads only tokens, and {type(tuning).__name__} puts virtual tokens before each prompt"
    if engine == "transformers_cb":
        return "it has no flex_attention (model.attention)" if model.attention == "flex_attention" else None
    if model.is_quantized:
        return "it would read the weights without their quantisation (model.quantization)"
    if model.trust_remote_code:
        return "the architecture's code comes with the weights (model.trust_remote_code)"
    new = [*model.tokenizer.extra_tokens, *model.tokenizer.extra_special_tokens]
    if tuning.is_adapter and new:
        return f"it reads no adapter with new tokens ({', '.join(new)})"
    return unreadable_by_engine(tuning)


def check_engine_devices(generation: Generation, trainer: ExternalClass) -> Iterator[Problem]:
    """Report a decoding engine that does not support the devices of the run.

    The native engine, which decodes with this package's own code, supports all devices. No other engine supports a
    model that is split over devices, and the engine vllm supports only one device.
    """
    engine = generation.engine
    if engine == NATIVE:
        return
    devices, strategy = trainer.arguments.get("devices"), trainer.arguments.get("strategy")
    name = strategy.target if isinstance(strategy, ExternalClass) else str(strategy)
    count = len(devices) if isinstance(devices, list) else devices
    reason = None
    if name == FSDP:
        reason = f"{engine} needs the whole model on each device, and trainer.strategy={name} splits it"
    elif engine == "vllm" and (count not in (None, "auto", 1, "1") or trainer.arguments.get("num_nodes", 1) != 1):
        reason = f"vllm is started on one device, and the run uses several (trainer.devices={devices})"
    if reason is not None:
        yield Problem(key="generation.engine", value=engine, reason=reason, suggestion=NATIVE)
