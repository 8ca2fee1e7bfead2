"""Read a GGUF file's header without numpy: its metadata and the names of its tensors.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, Any

from instruct_lab.errors import InstructLabError
from instruct_lab.files import open_regular
from instruct_lab.model.facts import ModelFacts

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Format characters of the module `struct`, keyed by the type number of a metadata value."""
STRING, ARRAY = 8, 9
UNBIASED = frozenset({"gemma", "gemma2", "gemma3", "llama", "phi3", "qwen3", "qwen3moe"})
"""Architectures in GGUF files that transformers always builds without biases, although a file may have some."""


def facts_of_gguf(file: Path) -> ModelFacts:
    """Return the facts in the header of a GGUF file; if it cannot be read, all facts are unknown."""
    try:
        with open_regular(file) as stream:
            metadata, tensors = _read_header(stream)
        architecture = metadata.get("general.architecture")
        has_table = "position_embd.weight" in tensors
        return ModelFacts(
            hidden_size=metadata.get(f"{architecture}.embedding_length"),
            max_positions=metadata.get(f"{architecture}.context_length") if has_table else None,
            has_biases=any(name.endswith(".bias") for name in tensors),
        )
    except (InstructLabError, OSError, struct.error, KeyError, ValueError, OverflowError):
        return ModelFacts()


def unread_part(file: Path) -> str | None:
    """Name a part of a GGUF file that transformers would leave out without a word; `None` if there is none.

    transformers reads neither scaled positions nor, for the architectures in `UNBIASED`, biases.
    """
    try:
        with open_regular(file) as stream:
            metadata, tensors = _read_header(stream)
    except (InstructLabError, OSError, struct.error, KeyError, ValueError, OverflowError):
        return None  # reading the model reports it
    architecture = metadata.get("general.architecture")
    scaling = metadata.get(f"{architecture}.rope.scaling.type", "none")
    scale = metadata.get(f"{architecture}.rope.scale_linear", 1.0)
    factors = sorted(name for name in tensors if name.startswith(("rope_freqs.", "rope_factors_")))
    if scaling != "none" or scale != 1.0 or factors:
        return f"scaled positions ({factors[0] if factors else scaling if scaling != 'none' else f'factor {scale}'})"
    biases = sorted(name for name in tensors if name.endswith(".bias"))
    if architecture in UNBIASED and biases:
        return f"biases ({biases[0]})"
    return None


def _read_header(stream: IO[bytes]) -> tuple[dict[str, Any], set[str]]:
    """Read the metadata, with `None` instead of arrays, and the names of all tensors."""
    _, _, num_tensors, num_entries = _unpack(stream, "4sIQQ")
    metadata: dict[str, Any] = {}
    for _ in range(num_entries):
        key, (kind,) = _string(stream), _unpack(stream, "I")
        metadata[key] = _value(stream, kind)
    tensors = set()
    for _ in range(num_tensors):
        tensors.add(_string(stream))
        (num_dimensions,) = _unpack(stream, "I")
        _unpack(stream, f"{num_dimensions}QIQ")  # shape, type and offset
    return metadata, tensors


def _value(stream: IO[bytes], kind: int) -> Any:
    if kind == STRING:
        return _string(stream)
    if kind != ARRAY:
        return _unpack(stream, SCALARS[kind])[0]
    kind, count = _unpack(stream, "IQ")
    if kind in SCALARS:
        stream.seek(count * struct.calcsize(f"<{SCALARS[kind]}"), 1)
    else:
        for _ in range(count):
            _value(stream, kind)
    return None


def _string(stream: IO[bytes]) -> str:
    (length,) = _unpack(stream, "Q")
    return stream.read(length).decode("utf-8")


def _unpack(stream: IO[bytes], form: str) -> tuple[Any, ...]:
    form = f"<{form}"  # little-endian, without padding
    return struct.unpack(form, stream.read(struct.calcsize(form)))
