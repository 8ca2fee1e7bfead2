"""Choose a study's objective for another tool's training method, such as `dpo`, and convert the method's settings."""

from __future__ import annotations

from typing import Any

from instruct_lab.conversion.rules import Conversion, Different, Result, RuleFunction, Same

OBJECTIVES = {
    "sft": "supervised",
    "pt": "causal",
    "dpo": "dpo",
    "ipo": "ipo",
    "kto": "kto",
    "orpo": "orpo",
    "simpo": "simpo",
    "cpo": "cpo",
    "rm": "reward",
    "reward": "reward",
}
PAIRS = ("dpo", "ipo", "orpo", "simpo", "cpo", "reward", "dpo_hinge", "robust_dpo")
LOSSES = {"sigmoid": "dpo", "hinge": "dpo_hinge", "ipo": "ipo", "robust": "robust_dpo", "orpo": "orpo"} | {
    "simpo": "simpo"
}
NO_BETA = ("supervised", "causal", "reward")
SUPERVISED = "the study is supervised, another experiment"
NO_ROLLOUTS = f"answers are not generated and rewarded in training here; {SUPERVISED}"
NO_LOSS = f"there is no such loss here (instruct-lab list objective); {SUPERVISED}"
TEACHER = f"{SUPERVISED}; objective=distillation learns from a teacher, on the answers in the data"
OTHER_METHODS = {"bco": NO_LOSS, "tpo": NO_LOSS, "prm": NO_LOSS} | dict.fromkeys(
    ("gkd", "gold", "distillation", "minillm", "server_distillation", "iw_opd"), TEACHER
)
"""Training methods without an equivalent objective in this framework, each with a note on what the study does instead.

Methods that generate answers during training and reward them have no equivalent either. They are not listed, because
they all have the same note, `NO_ROLLOUTS`.
"""


def choose_objective(state: Conversion, method: str) -> Result:
    """Choose the objective for a training method such as `dpo`, and the metrics and template that suit it.

    If the method has no equivalent, choose supervised training and report this.
    """
    option = OBJECTIVES.get(method)
    state.choose("objective", option or "supervised")
    if option in PAIRS or option == "kto":
        state.choose("metrics", "none" if option == "kto" else "preference")
    if option == "causal":
        state.choose("template", "plain")
    return Different(OTHER_METHODS.get(method, NO_ROLLOUTS)) if option is None else None


def choose_loss(state: Conversion, name: str) -> Result:
    """Choose the preference loss with the given name; if this framework lacks it, choose DPO's loss and report this."""
    option = LOSSES.get(name)
    state.choose("objective", option or "dpo")
    return Different(f"there is no preference loss {name} here; DPO's is used") if option is None else None


def set_beta(state: Conversion, value: Any) -> Result:
    """Set the objective's field `beta` or, for ORPO, its field `weight`.

    If the objective has neither field, report that the setting has no equivalent.
    """
    objective = state.choices.get("objective", "supervised")
    if objective in NO_BETA:
        return Different("the objective has no beta")
    state.set("objective.weight" if objective == "orpo" else "objective.beta", value)
    return None


def set_for(objective: str, key: str) -> RuleFunction:
    """Return a rule that sets a key in the study if the study chooses a certain objective, and otherwise sets nothing.

    Args:
        objective: the option of the group `objective`.
        key: full key to which the setting's value is assigned.
    """

    def rule(state: Conversion, value: Any) -> Result:
        if state.choices.get("objective") != objective:
            return Same("the objective does not read it")
        state.set(key, value)
        return None

    return rule
