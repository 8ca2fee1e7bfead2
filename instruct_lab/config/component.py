"""What a component is: a frozen dataclass whose fields are its configuration and whose types are its schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform

import pydantic
from pydantic.dataclasses import dataclass

from instruct_lab.errors import Problem

T = TypeVar("T")
ALL_FAMILIES = frozenset({"decoder", "encoder-decoder", "encoder"})


class Component:
    """The base of every configurable choice.

    Building a component does nothing but check it. What it needs from other choices it declares in class
    variables, which are compared in one place (`instruct_lab.experiment.rules`).
    """

    families: ClassVar[frozenset[str]] = ALL_FAMILIES
    """Model families that this choice works with."""

    name_in_messages: ClassVar[str | None] = None
    """What error messages call this component; `None`: the name of its class."""

    def problems(self) -> Iterator[Problem]:
        """Yield problems that depend on the environment (a missing file, an unknown column).

        Called after every component is built; reads little (a file's first row) and loads no heavy library. Keys are
        relative to this component.
        """
        yield from ()


@dataclass_transform(frozen_default=True, kw_only_default=True)
def component(cls: type[T]) -> type[T]:
    """Make a class a component: frozen, with keyword-only fields; wrong types and unknown keys are refused by name."""
    settings = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    decorated: Any = dataclass(frozen=True, kw_only=True, config=settings)(cls)
    return cast(type[T], decorated)
