"""The base class and the decorator of components: dataclasses whose fields are set and checked by the config."""

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
    """Families of models with which this component can be used."""

    name_in_messages: ClassVar[str | None] = None
    """The name by which error messages call the component; `None` stands for the name of its class."""

    exclusive_fields: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of fields; only one field of each pair may be set. If an option file sets one of them and an override sets
    the other, the one from the file becomes null."""

    written_paths: ClassVar[tuple[str, ...]] = ()
    """Names of the fields whose values are paths to which a run writes; see `instruct_lab.config.outside_writes`."""

    fields_about: ClassVar[dict[str, tuple[str, ...]]] = {}
    """For each field that describes other fields, the names of those other fields: for example, `revision` describes
    `repository`. If an override changes `repository` only, the revision from the option file no longer applies: it
    becomes null if null is its default; otherwise, the user must set it again."""

    null_values: ClassVar[tuple[str, ...]] = ()
    """Names of the fields that hold a mapping in which null is an ordinary value. In all other mappings, an entry that
    is set to null is removed; see `instruct_lab.config.removed_entries`."""

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
    """Turn a class into a frozen dataclass with keyword-only fields, which refuses wrong types and unknown keys."""
    settings = pydantic.ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        defer_build=True,  # a config uses one in ten components: a validator is built when its class is first used
    )
    decorated: Any = dataclass(frozen=True, kw_only=True, config=settings)(cls)
    return cast(type[T], decorated)
