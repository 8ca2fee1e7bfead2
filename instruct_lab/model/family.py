"""Recognition of a model's family (decoder, encoder-decoder or encoder) from the model or its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from instruct_lab.errors import InstructLabError

CLASSES = {"decoder": "Decoder", "encoder-decoder": "EncoderDecoder", "encoder": "Encoder"}
ENDINGS = {"ForMaskedLM": "encoder", "ForCausalLM": "decoder", "GPT2LMHeadModel": "decoder"}
"""Families of models, keyed by how the name of the model's class ends."""
OTHER_MODALITIES = ("speech", "vision", "whisper", "audio")
"""Words in the transformers model types of encoder-decoders that do not read text, such as `whisper`."""


def without_adapters(model: Any) -> Any:
    """Return the transformers model inside PEFT's wrapper; without a wrapper, return the model itself.

    Adapters that are injected into the model's layers stay in them.
    """
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def family_of(model: Any) -> str:
    """Return the family of a transformers model, with or without adapters."""
    return family_of_config(without_adapters(model).config)


def family_of_config(config: Any) -> str:
    """Return the family of the model that a transformers configuration describes.

    If the model's code comes with the weights, the configuration lists the classes in this code. A class for masked
    language modelling and none for causal language modelling mean that the model is an encoder.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    own_classes = getattr(config, "auto_map", None) or {}
    is_masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES or (
        "AutoModelForMaskedLM" in own_classes and "AutoModelForCausalLM" not in own_classes
    )
    return "encoder" if is_masked and not getattr(config, "is_decoder", False) else "decoder"


def family_of_settings(settings: Mapping[str, Any], name: str) -> str:
    """Return the family of the model that a `config.json` describes.

    transformers is imported only if the settings do not state the family.

    Args:
        settings: the content of the `config.json`.
        name: name of the model in error messages.

    Raises:
        InstructLabError: the file does not describe a language model that transformers knows.
    """
    found = settings.get("architectures")
    architectures = [str(one) for one in found] if isinstance(found, list) else []
    model_type = str(settings.get("model_type", ""))
    if settings.get("is_encoder_decoder") is True and not any(word in model_type for word in OTHER_MODALITIES):
        return "encoder-decoder"
    for ending, family in ENDINGS.items():
        if any(one.endswith(ending) for one in architectures):
            return family
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES | MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        named = ", ".join(architectures) or "no architectures"
        raise InstructLabError(
            f"Its config.json (model_type {model_type!r}, {named}) is not of a language model that transformers knows",
            where=name,
            do="choose another model, or write an option file with the family in _target_ and trust_remote_code: true "
            "if its architecture comes with the weights",
        )
    return family_of_config(SimpleNamespace(**{**settings, "model_type": model_type}))


def check_family(config: Any, family: str, name: str) -> None:
    """Refuse a model whose family is not the expected one; transformers itself would load it without an error.

    For example, transformers would load only the decoder of BART, and would load BERT as a causal language model that
    sees the tokens that it has to predict.

    Args:
        config: the transformers configuration.
        family: the expected family: `decoder`, `encoder-decoder` or `encoder`.
        name: name of the model in error messages.

    Raises:
        InstructLabError: the configuration describes another family.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    found = family_of_config(config)
    is_known = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES | MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if found != family and (is_known or found == "encoder-decoder"):  # for other architectures their own code decides
        raise InstructLabError(
            f"The architecture {config.model_type} is an {found}, and this option loads an {family}".replace(
                "an decoder", "a decoder"
            ),
            where=name,
            do=f"set model._target_=instruct_lab.model.{CLASSES[found]}, or choose another model",
        )
