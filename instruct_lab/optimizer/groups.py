"""Parameter groups: which parameters share a learning rate and a weight decay, by the names of the parameters."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    import torch

LAYER = re.compile(r"(?:^|[._])(?:layers?|layer_groups|h|blocks?)\.(\d+)(?=\.|$)")
"""A layer's number in a parameter's name: `model.layers.3.`, `transformer.h.3.`, `encoder.block.3.`."""

EMBEDDING = r"embed|(^|\.)(wte|wpe|shared)(\.|$)"
"""Token and position embeddings of Llama, GPT-2, T5, BART and BERT, and prompts that are trained as embeddings."""

NO_DECAY = rf"bias$|norm|(^|\.)ln_|relative_attention_bias|magnitude_vector|ia3_|{EMBEDDING}"
"""Biases, norms, embeddings, and the vectors of adapters whose neutral value is not zero."""

NamedParameters = Iterable[tuple[str, "torch.nn.Parameter"]]
Factor = Callable[[str], float]
"""A factor of the learning rate by parameter name."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Parameters that share everything.

    Args:
        parameters: in the model's order.
        factor: of the learning rate.
        decayed: whether weight decay applies.
        part: which of an optimizer's rules applies; empty where it has one.
    """

    parameters: list[torch.nn.Parameter]
    factor: float
    decayed: bool
    part: str

    def options(self, lr: float, weight_decay: float) -> dict[str, Any]:
        """The group as torch's optimizers take it."""
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
    """The parameters that require gradients, grouped; those whose learning rate has no factor come first of a part.

    Args:
        parameters: all of a model's, by name.
        no_decay: regular expression of names without weight decay.
        factor: of the learning rate, by name.
        part: which of the optimizer's rules applies to a parameter; parts come in the order of their names.

    Raises:
        InstructLabError: nothing trains.
    """
    members: dict[tuple[str, float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            decayed = not re.search(no_decay, name, re.IGNORECASE)
            members.setdefault((part(name, parameter), factor(name), decayed), []).append(parameter)
    if not members:
        raise InstructLabError(
            "No parameter of the model trains", where="tuning", do="choose a method that trains some"
        )
    keys = sorted(members, key=lambda key: (key[0], abs(math.log(key[1])), key[1], not key[2]))
    return [Group(members[key], key[1], key[2], key[0]) for key in keys]


def pattern_factors(patterns: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    """The factor of every name that a pattern matches; the first pattern that matches wins.

    Args:
        patterns: regular expression, ignoring case, to factor.
        names: of the parameters that train.

    Raises:
        InstructLabError: a pattern decides no name's factor.
    """
    names = list(names)
    found: dict[str, float] = {}
    for pattern, factor in patterns.items():
        matched = [name for name in names if re.search(pattern, name, re.IGNORECASE)]
        if not matched:
            raise InstructLabError(
                f"The pattern {pattern!r} matches no trained parameter",
                where="optimizer.lr_factors",
                do=f"match one of these parts of their names: {', '.join(_nearest(pattern, names))}",
            )
        if all(name in found for name in matched):
            raise InstructLabError(
                f"Every trained parameter that the pattern {pattern!r} matches is matched by a pattern before it",
                where="optimizer.lr_factors",
                do="put the narrower pattern first: the first match wins",
            )
        found |= {name: factor for name in matched if name not in found}
    return found


def _nearest(pattern: str, names: list[str]) -> list[str]:
    parts = list(dict.fromkeys(part for name in names for part in name.split(".") if not part.isdigit()))
    words = re.findall(r"\w+", pattern)
    close = [part for word in words for part in difflib.get_close_matches(word, parts, n=2, cutoff=0.5)]
    return list(dict.fromkeys(close or parts))[:4]


def distances_from_top(names: Iterable[str]) -> dict[str, int]:
    """How many layers lie between each parameter and the model's output, from the layer numbers in the names.

    What stands outside the layers (the last norm, the head) has 0, the top layer 1, the lowest of L layers L, the
    embeddings L + 1. Encoder and decoder each count from their own top: every decoder layer reads the encoder's top.

    Raises:
        InstructLabError: no name holds a layer's number.
    """
    names = list(names)
    layers = {name: (name[: match.start()], int(match[1])) for name in names if (match := LAYER.search(name))}
    if not layers:
        raise InstructLabError(
            "No parameter name holds a layer's number, so there is no distance from the top",
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
