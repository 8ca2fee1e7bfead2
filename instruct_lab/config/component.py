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

    Creating a component checks its fields and does nothing else: no data is read and no model is loaded. Class
    variables declare what the component requires of the other components of a run; `instruct_lab.experiment.rules`
    checks these requirements.
    """

    families: ClassVar[frozenset[str]] = ALL_FAMILIES
    """Families of models with which this component can be used."""

    name_in_messages: ClassVar[str | None] = None
    """The name by which error messages call the component; `None` stands for the name of its class."""

    exclusive_fields: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of fields of which only one may be set. If an option file sets one field of a pair and an override sets the
    other, the field that the file sets becomes null."""

    written_paths: ClassVar[tuple[str, ...]] = ()
    """Names of the fields whose values are paths to which a run writes. A path outside the working directory and the
    cache folder needs the user's permission."""

    fields_about: ClassVar[dict[str, tuple[str, ...]]] = {}
    """For each field that describes other fields, the names of these fields: for example, `revision` describes
    `repository`. If an override changes `repository` only, the revision from the option file does not fit any more. It
    becomes null if null is its default; otherwise, the user must set it too."""

    null_values: ClassVar[tuple[str, ...]] = ()
    """Names of the fields whose value is a mapping in which null is an ordinary value. In all other mappings, a key
    that is set to null is removed."""

    def permissions_needed(self) -> Iterator[tuple[str, str]]:
        """Yield a pair for each field whose value needs the user's permission: the field's name and the permission's.

        The permissions are the keys of `instruct_lab.config.permissions.PERMISSIONS`, such as `execution`.
        """
        yield from ()

    def problems(self) -> Iterator[Problem]:
        """Yield problems that depend on files and other things outside the config: a missing file, an unknown column.

        The method is called once all components are built. It must be fast (read a file's first row at most) and load
        no heavy library. Keys of the problems are relative to this component.
        """
        yield from ()


@dataclass_transform(frozen_default=True, kw_only_default=True)
def component(cls: type[T]) -> type[T]:
    """Turn a class into a frozen dataclass whose fields are keyword-only; it refuses wrong types and unknown fields."""
    settings = pydantic.ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        defer_build=True,  # a config uses one in ten components: a validator is built when its class is first used
    )
    decorated: Any = dataclass(frozen=True, kw_only=True, config=settings)(cls)
    return cast(type[T], decorated)
