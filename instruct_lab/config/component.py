"""Components: frozen dataclasses whose fields are the configuration and whose types are the schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform

import pydantic
from pydantic.dataclasses import dataclass

from instruct_lab.errors import Problem

T = TypeVar("T")
ALL_FAMILIES = frozenset({"decoder", "encoder-decoder", "encoder"})


class Component:
    """The base class of everything that a config can choose, such as a model, a tuning method or a metric.

    Building a component checks its fields and does nothing else. Class variables declare what the component needs from
    the other components of a run; `instruct_lab.experiment.rules` checks that these needs are met.
    """

    families: ClassVar[frozenset[str]] = ALL_FAMILIES
    """Model families that this choice works with."""

    name_in_messages: ClassVar[str | None] = None
    """The component's name in error messages; `None`: the name of its class."""

    exclusive_fields: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of fields of which only one may be set. If an option file sets one and an override sets the other,
    the first becomes null."""

    written_paths: ClassVar[tuple[str, ...]] = ()
    """Fields with paths that a run writes to; see `instruct_lab.config.outside_writes`."""

    fields_about: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Fields that describe the values of other fields, as `revision` describes `repository`, each with these others. If
    a described value is changed later, the describing field becomes null if null is its default; otherwise, the user
    must set it again."""

    null_values: ClassVar[tuple[str, ...]] = ()
    """Fields that are mappings in which null is a value. In other mappings, null removes an entry; see
    `instruct_lab.config.removed_entries`."""

    def permissions_needed(self) -> Iterator[tuple[str, str]]:
        """Yield the fields whose values need a permission of the user, each with the permission's name.

        The names are those of `instruct_lab.config.permissions.PERMISSIONS`.
        """
        yield from ()

    def problems(self) -> Iterator[Problem]:
        """Yield problems that depend on the environment (a missing file, an unknown column).

        The method is called once all components are built. It must be fast (read a file's first row at most) and load
        no heavy library. Keys of the problems are relative to this component.
        """
        yield from ()


@dataclass_transform(frozen_default=True, kw_only_default=True)
def component(cls: type[T]) -> type[T]:
    """Make a class a component: a frozen dataclass with keyword-only fields, which refuses wrong types and keys."""
    settings = pydantic.ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        defer_build=True,  # a config uses one in ten components: a validator is built when its class is first used
    )
    decorated: Any = dataclass(frozen=True, kw_only=True, config=settings)(cls)
    return cast(type[T], decorated)
