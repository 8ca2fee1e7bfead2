"""The signature of a value: how it was computed, as parts that are separated by vertical bars."""

from __future__ import annotations

import re

COUNTS = re.compile(r"\|(?:empty|unjudged|clusters|interval):[^|]*")
ENGINE = re.compile(r"\|engine:([^|]*)")


def measured_alike(signature: str) -> str:
    """Return a signature without counts and the interval; values with equal results can be compared."""
    return COUNTS.sub("", signature)


def with_engine(signature: str, engine: str) -> str:
    """Add the engine that decoded the answers to a signature, unless it is this package's own decoding."""
    return signature if engine == "native" else f"{signature}|engine:{engine}"


def engine_of(signature: str) -> str:
    """Return the engine that decoded the answers, according to a signature."""
    found = ENGINE.search(signature)
    return "native" if found is None else found[1]


def without_engine(signature: str) -> str:
    """Return a signature without the engine that decoded the answers."""
    return ENGINE.sub("", signature)
