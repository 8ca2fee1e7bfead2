"""Which family a model belongs to."""

from __future__ import annotations

from typing import Any

from instruct_lab.errors import InstructLabError

CLASSES = {"decoder": "Decoder", "encoder-decoder": "EncoderDecoder", "encoder": "Encoder"}


def family_of(model: Any) -> str:
    """The family of a loaded model, adapted or not: what it carries, else what its configuration says."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # without what PEFT wrapped around it
    carried = getattr(base, "family", None)
    return str(carried) if carried is not None else family_of_config(base.config)


def family_of_config(config: Any) -> str:
    """The family that a configuration of transformers describes."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    reads_whole = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    return "encoder" if reads_whole else "decoder"


def check_family(config: Any, family: str, name: str) -> None:
    """Refuse a model of another family.

    transformers would load it all the same: the decoder half of BART as a causal language model, or BERT as one that
    sees the tokens it is to predict.

    Args:
        config: of transformers.
        family: the one that is wanted.
        name: what the user calls the model.

    Raises:
        InstructLabError: the configuration describes another family.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    found = family_of_config(config)
    known = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES | MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if found != family and (known or found == "encoder-decoder"):  # of others its own code knows
        raise InstructLabError(
            f"The architecture {config.model_type} is an {found}, and this option loads an {family}".replace(
                "an decoder", "a decoder"
            ),
            where=name,
            do=f"set model._target_=instruct_lab.model.{CLASSES[found]}, or choose another model",
        )
