"""Choose the objective for a training method."""

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
"""Training methods without an equivalent objective here, each with a note on what the study does instead.

Methods that generate answers in training and reward them are not listed; `NO_ROLLOUTS` is the note on all of them.
"""


def choose_objective(state: Conversion, method: str) -> Result:
    """Choose the objective for a training method such as `dpo`, and the metrics that suit it."""
    option = OBJECTIVES.get(method)
    state.choose("objective", option or "supervised")
    if option in PAIRS or option == "kto":
        state.choose("metrics", "none" if option == "kto" else "preference")
    if option == "causal":
        state.choose("template", "plain")
    return Different(OTHER_METHODS.get(method, NO_ROLLOUTS)) if option is None else None


def choose_loss(state: Conversion, name: str) -> Result:
    """Choose the preference loss with the given name, or DPO's loss if there is no such loss here."""
    option = LOSSES.get(name)
    state.choose("objective", option or "dpo")
    return Different(f"there is no preference loss {name} here; DPO's is used") if option is None else None


def set_beta(state: Conversion, value: Any) -> Result:
    """Set the objective's `beta`, or its `weight` if the objective is ORPO."""
    objective = state.choices.get("objective", "supervised")
    if objective in NO_BETA:
        return Different("the objective has no beta")
    state.set("objective.weight" if objective == "orpo" else "objective.beta", value)
    return None


def set_for(objective: str, key: str) -> RuleFunction:
    """Return a rule that sets `key` if the study chooses `objective`, and otherwise reports that nothing is set."""

    def rule(state: Conversion, value: Any) -> Result:
        if state.choices.get("objective") != objective:
            return Same("the objective does not read it")
        state.set(key, value)
        return None

    return rule
