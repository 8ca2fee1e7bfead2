"""The formats in which a model can be exported, and the models that each format does not support."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    from instruct_lab.experiment import Experiment

Format = Literal["hf", "adapter", "gguf", "ollama", "vllm"]
"""The format of an export.

- `hf`: the whole model, as transformers saves it.
- `adapter`: the adapter, with the origin of its base model.
- `gguf`: the whole model as one file for llama.cpp.
- `ollama`: a GGUF file as for `gguf`, and a Modelfile with the template and the settings of decoding.
- `vllm`: the files of `hf`; their README also has the command that serves the model with vLLM.
"""
FORMATS: tuple[Format, ...] = get_args(Format)
WeightType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
"""Type of the weight matrices in a GGUF file: floating-point numbers, or 8, 5 or 4 bits for each weight.

Weights of 8, 5 or 4 bits are quantised in blocks of 32 that share a scale.
"""
WEIGHT_TYPES: tuple[WeightType, ...] = get_args(WeightType)
ONE_FILE: tuple[Format, ...] = ("gguf", "ollama")
"""Formats in which the weights are one GGUF file."""


def choose_format(experiment: Experiment, form: Format) -> Format:
    """Return the format to write, which is usually the requested one.

    If `hf` is requested and the adapter cannot be merged into the model, the format is `adapter`.

    Args:
        experiment: the run's configuration.
        form: the requested format.

    Raises:
        InstructLabError: the run's model cannot be written in the requested format.
    """
    tuning, where = experiment.tuning, f"--format {form}"
    method = type(tuning).__name__
    if not tuning.trains:
        what, do = f"{method} trains nothing, so there is no tuned model to export", "use the base model of the run"
        raise InstructLabError(what, do=do)
    if form == "hf" and not tuning.mergeable:
        return "adapter"
    if form == "adapter" and not tuning.is_adapter:
        what = f"{method} has no adapter to keep: it trained the model's own weights"
        raise InstructLabError(what, where=where, do="leave out --format and --keep-adapter")
    if form != "adapter" and not tuning.mergeable:
        what = f"{method}'s adapter cannot be merged into the model, and this format holds whole models"
        raise InstructLabError(what, where=where, do="choose --format adapter")
    if form in ("gguf", "ollama", "vllm"):
        if reason := experiment.cannot_answer:
            what = f"This run's model answers no prompts: {reason}"
            raise InstructLabError(what, where=where, do="choose --format hf")
        if form in ONE_FILE and experiment.model.family != "decoder":
            what = f"A model of the family {experiment.model.family} is not written as a GGUF file, only a decoder is"
            raise InstructLabError(what, where=where, do="choose --format hf")
    return form
