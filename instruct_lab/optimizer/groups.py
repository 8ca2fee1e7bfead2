"""Divide parameters, by their names, into groups with the same learning rate and weight decay."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from instruct_lab.config import LimitedExpression
from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    import torch

LAYER = re.compile(r"(?:^|[._])(?:layers?|layer_groups|h|blocks?)\.(\d+)(?=\.|$)")
"""Matches the layer number in a parameter name: `model.layers.3.`, `transformer.h.3.`, `encoder.block.3.`."""

EMBEDDING = r"embed|(^|\.)(wte|wpe|shared)(\.|$)"
"""Matches names of token and position embeddings of Llama, GPT-2, T5, BART and BERT, and trained prompt embeddings."""

NO_DECAY = rf"bias$|norm|(^|\.)ln_|relative_attention_bias|magnitude_vector|ia3_|{EMBEDDING}"
"""Matches names of the parameters that get no weight decay by default.

These are biases, norms, embeddings, and those vectors of adapters that leave the model unchanged at a value other than
zero, such as 1; weight decay would pull them away from it.
"""

Factor = Callable[[str], float]
"""Function that returns the learning-rate factor for a parameter name."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Parameters with the same learning rate, weight decay and update rule.

    Args:
        parameters: the parameters, in the model's order.
        factor: number by which the optimizer's learning rate is multiplied for these parameters.
        decayed: whether weight decay applies.
        part: name of the update rule; empty if the optimizer has only one.
    """

    parameters: list[torch.nn.Parameter]
    factor: float
    decayed: bool
    part: str

    def options(self, lr: float, weight_decay: float) -> dict[str, Any]:
        """Return the group as a dictionary of parameters and settings, as torch optimizers take it.

        Args:
            lr: the optimizer's peak learning rate.
            weight_decay: the optimizer's weight decay.
        """
        return {
            "params": self.parameters,
            "lr": lr * self.factor,
            "weight_decay": weight_decay if self.decayed else 0.0,
        }


def parameter_groups(
    parameters: list[tuple[str, torch.nn.Parameter]],
    *,
    no_decay: str,
    factor: Factor,
    part: Callable[[str, torch.nn.Parameter], str],
) -> list[Group]:
    """Divide the parameters that require gradients into groups of equal update rule, learning rate and weight decay.

    The groups are sorted by update rule; within each rule, groups with factor 1 come first.

    Args:
        parameters: all parameters of a model, with their names.
        no_decay: regular expression; parameters whose names match it get no weight decay.
        factor: function that returns, for a parameter name, the number by which the learning rate is multiplied.
        part: function that returns the name of a parameter's update rule; groups are sorted by this name.

    Raises:
        InstructLabError: no parameter requires gradients.
    """
    members: dict[tuple[str, float, bool], list[torch.nn.Parameter]] = {}
    undecayed = LimitedExpression(no_decay, where="optimizer.no_decay", ignore_case=True)
    for name, parameter in parameters:
        if parameter.requires_grad:
            decayed = not undecayed.search(name)
            members.setdefault((part(name, parameter), factor(name), decayed), []).append(parameter)
    if not members:
        raise InstructLabError(
            "No parameter of the model requires gradients", where="tuning", do="choose a method that trains some"
        )
    keys = sorted(members, key=lambda key: (key[0], abs(math.log(key[1])), key[1], not key[2]))
    return [Group(members[key], key[1], key[2], key[0]) for key in keys]


def factors_by_pattern(patterns: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    """Return the learning-rate factor of each parameter whose name matches a pattern, keyed by parameter name.

    If several patterns match a name, the first one applies.

    Args:
        patterns: learning-rate factors, keyed by regular expression; case is ignored.
        names: names of the trained parameters.

    Raises:
        InstructLabError: a pattern matches no name, or only names that an earlier pattern matches.
    """
    names = list(names)
    found: dict[str, float] = {}
    for pattern, factor in patterns.items():
        expression = LimitedExpression(pattern, where="optimizer.lr_factors", ignore_case=True)
        matched = [name for name in names if expression.search(name)]
        if not matched:
            raise InstructLabError(
                f"The pattern {pattern!r} matches no trained parameter",
                where="optimizer.lr_factors",
                do=f"match one of these parts of their names: {', '.join(_nearest(pattern, names))}",
            )
        if all(name in found for name in matched):
            raise InstructLabError(
                f"Every trained parameter that the pattern {pattern!r} matches is also matched by an earlier pattern",
                where="optimizer.lr_factors",
                do="put the narrower pattern first: the first match applies",
            )
        found |= {name: factor for name in matched if name not in found}
    return found


def _nearest(pattern: str, names: list[str]) -> list[str]:
    parts = list(dict.fromkeys(part for name in names for part in name.split(".") if not part.isdigit()))
    words = re.findall(r"\w+", pattern)
    close = [part for word in words for part in difflib.get_close_matches(word, parts, n=2, cutoff=0.5)]
    return list(dict.fromkeys(close or parts))[:4]


def distances_from_top(names: Iterable[str]) -> dict[str, int]:
    """Return each parameter's distance from the model's output, counted in layers.

    Parameters outside the layers (the last norm, the head) have distance 0, the top layer has 1, the lowest of L layers
    has L, and the embeddings have L + 1. In an encoder-decoder, the top layer of the encoder and of the decoder both
    have distance 1, because every decoder layer reads the encoder's output.

    Raises:
        InstructLabError: no name contains a layer number.
    """
    names = list(names)
    layers = {name: (name[: match.start()], int(match[1])) for name in names if (match := LAYER.search(name))}
    if not layers:
        raise InstructLabError(
            "No parameter name contains a layer number, so layers have no distance from the output",
            where="optimizer.layer_decay",
            do="set it to null",
        )
    tops: dict[str, int] = {}
    for stack, number in layers.values():
        tops[stack] = max(number, tops.get(stack, 0))
    lowest = max(tops.values()) + 2
    distances: dict[str, int] = {}
    for name in names:
        if name in layers:
            stack, number = layers[name]
            distances[name] = tops[stack] - number + 1
        else:
            distances[name] = lowest if re.search(EMBEDDING, name, re.IGNORECASE) else 0
    return distances
