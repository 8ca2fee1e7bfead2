"""The signature of a metric's value: a text that says how it was computed, in parts separated by vertical bars."""

from __future__ import annotations

import re

COUNTS = re.compile(r"\|(?:empty|unjudged|clusters|interval):[^|]*")
ENGINE = re.compile(r"\|engine:([^|]*)")


def measured_alike(signature: str) -> str:
    """Return a signature without the parts that may differ between comparable values.

    These parts are the numbers of empty answers, of answers that were not judged and of clusters, and the kind of
    interval. Two values can be compared if this function returns the same text for their signatures.
    """
    return COUNTS.sub("", signature)


def with_engine(signature: str, engine: str) -> str:
    """Add the part `engine:NAME` to a signature, unless this package itself (`native`) generated the answers."""
    return signature if engine == "native" else f"{signature}|engine:{engine}"


def engine_of(signature: str) -> str:
    """Return the engine that generated the answers, according to a signature; `native` is this package itself."""
    found = ENGINE.search(signature)
    return "native" if found is None else found[1]


def without_engine(signature: str) -> str:
    """Return a signature without the engine that generated the answers."""
    return ENGINE.sub("", signature)
