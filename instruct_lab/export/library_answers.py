"""Find out whether PEFT's `generate` gives the same answers as the run did.

They may differ for an adapter that puts virtual tokens before each prompt (prompt tuning, prefix tuning).

PEFT 0.21 passes the key-value cache to models as the argument `past_key_values`, which transformers 5.24 renamed to
`cache`. With these versions, `generate` loses the cache or prepends the virtual tokens again at every step. A run
corrects the argument's name (`instruct_lab.tuning.cache_names`). A user who loads the exported adapter with PEFT does
not have this correction, so the model card warns of it.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

from instruct_lab.tuning.cache_names import PEFT_NAME, cache_name

Answers = Literal["same", "same without cache", "different"]
"""How the answers of PEFT's `generate` compare with those that the run measured.

`same without cache` means that they are the same if `generate` is called with `use_cache=False`.
"""


def compare_answers(model: Any) -> Answers:
    """Predict from the tuning method and the model whether PEFT's `generate` gives the same answers as the run did.

    The answers can differ only for a model with an adapter that puts virtual tokens before each prompt.

    Args:
        model: the tuned model.
    """
    config = getattr(model, "active_peft_config", None)
    if config is None or not config.is_prompt_learning or cache_name(model.get_base_model()) in (None, PEFT_NAME):
        return "same"
    if config.peft_type == "PREFIX_TUNING":  # the prefix is in the cache, and without it positions depend on the model
        return "different"
    return "same" if model.config.is_encoder_decoder else "same without cache"


def answers_note(answers: Answers) -> str:
    """Return the paragraph of the model card that warns that PEFT's `generate` gives other answers than the run did.

    The text is empty if the answers are the same.
    """
    if answers == "same":
        return ""
    found = (
        f"With PEFT {version('peft')} and transformers {version('transformers')}, `generate` answers otherwise than "
        "measured, because the two libraries name the key-value cache differently, so that the virtual tokens are not "
        "found in it."
    )
    if answers == "different":
        return f"{found} No setting of `generate` helps with every model; `instruct-lab generate` answers as measured."
    return f"{found} Without the cache, as below, it answers as measured, but more slowly."
