"""Rules that convert settings of models, adapters and quantisation; several tools have such settings."""

from __future__ import annotations

from typing import Any

from instruct_lab.config.options import option_of_repository
from instruct_lab.conversion.rules import ON, Conversion, Different, Result, RuleFunction, Same
from instruct_lab.files import user_path

ENCODER_DECODERS = ("t5", "bart", "marian", "opus-mt", "pegasus")
PEFT_DEFAULT = ["q_proj", "v_proj"]
NOT_ADAPTED = Same("there is no adapter")


def choose_model(revision_key: str) -> RuleFunction:
    """Return a rule that chooses the model which a setting names: a Hugging Face repository, a folder or a GGUF file.

    Args:
        revision_key: the other tool's setting for the revision of the repository.
    """
    return lambda state, value: _choose_model(state, value, state.get(revision_key))


def _choose_model(state: Conversion, name: Any, revision: Any) -> Result:
    text = str(name)
    path = user_path(text)
    if text.startswith(("/", ".", "~")) or path.is_dir() or text.count("/") > 1:
        is_gguf = text.endswith(".gguf")
        state.choose("model", "local_gguf" if is_gguf else "local_folder")
        state.set("model.weights.path", text)
        return "" if path.exists() else "there is no such folder here yet"
    option = option_of_repository("model", text)
    is_newest = revision in (None, "main")
    if option is not None and is_newest:
        state.choose("model", option.name)
        return "the option names this repository"
    last = text.rpartition("/")[2].casefold()
    is_seq2seq = any(last.startswith(kind) or f"-{kind}" in last for kind in ENCODER_DECODERS)
    state.choose("model", "hub_encoder_decoder" if is_seq2seq else "hub")
    if is_seq2seq:
        state.choose("template", "contents")
    state.set("model.weights.repository", text)
    if not is_newest:
        state.set("model.weights.revision", str(revision))
    return "as a decoder; model=hub:OWNER/NAME recognises the family" if not is_seq2seq else None


def set_targets(state: Conversion, value: Any) -> Result:
    """Choose the modules of the model to which adapters are added.

    Args:
        state: the conversion, which contains the study.
        value: names of modules as a list or a text, `all`, or a regular expression.
    """
    if not is_adapter(state):
        return NOT_ADAPTED
    names = value if isinstance(value, list) else [name for name in str(value).replace(",", " ").split() if name]
    if isinstance(value, str) and any(sign in value for sign in "\\*()[]^$|"):
        state.set("tuning.target_modules", value)
        return "one regular expression of the full name"
    is_all = names in (["all"], ["all-linear"], ["all_linear"])
    state.set("tuning.target_modules", "all-linear" if is_all else [str(name) for name in names])
    return None


def is_adapter(state: Conversion) -> bool:
    """Whether the study trains low-rank adapters."""
    return state.choices.get("tuning", "lora") == "lora"


def set_lora(key: str) -> RuleFunction:
    """Return a rule that sets the field `tuning.{key}` to a setting's value if the study trains low-rank adapters."""

    def rule(state: Conversion, value: Any) -> Result:
        if not is_adapter(state):
            return NOT_ADAPTED
        state.set(f"tuning.{key}", value)
        return None

    return rule


def quantize(bits: int) -> RuleFunction:
    """Return a rule that quantises the frozen weights to the given number of bits if a setting is switched on."""

    def rule(state: Conversion, value: Any) -> Result:
        return set_quantization(state, bits) if value in ON else Same("switched off")

    return rule


def set_quantization(state: Conversion, value: Any) -> Result:
    """Set the number of bits to which the frozen weights are quantised."""
    if value not in (4, 8):
        return Different("weights are quantised to 4 or 8 bits here")
    if state.choices.get("tuning") in ("full", "train_first_layers", "train_last_layers"):
        return Different("weights are quantised only if they are frozen")
    state.set("model.quantization", f"{value}bit")
    return None


def train_new_modules(state: Conversion, value: Any) -> Result:
    """Report modules that the other tool trains in full beside the adapters, and that stay frozen in this framework."""
    if not is_adapter(state):
        return NOT_ADAPTED
    return Different(f"{value} stay frozen; the embeddings of new tokens are trained with the adapter")


def adapt_for_kto(state: Conversion) -> None:
    """If the study's objective is KTO, choose LoRA, because KTO requires adapters in this framework.

    KTO compares the trained model with the base model, which is the same model with its adapters switched off.
    """
    if state.choices.get("objective") == "kto" and state.choices.get("tuning") not in (None, "lora"):
        state.choose("tuning", "lora")
        note = "KTO compares with the model whose adapters are switched off, so LoRA trains here, not all weights"
        state.add_row("(tuning)", None, "different", note)
