"""A reader of the header of GGUF files (metadata and tensor names) that needs no numpy.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import IO, Any, NamedTuple

from instruct_lab.errors import InstructLabError
from instruct_lab.files import open_regular
from instruct_lab.model.facts import ModelFacts

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""How the module `struct` unpacks a metadata value: format characters, keyed by the value's type in the file."""
STRING, ARRAY = 8, 9
UNBIASED = frozenset({"gemma", "gemma2", "gemma3", "llama", "phi3", "qwen3", "qwen3moe"})
"""Architectures in GGUF files that transformers always builds without biases, although a file may have some."""


class Header(NamedTuple):
    """The metadata of a GGUF file, with `None` instead of arrays, and the number of values of each tensor."""

    metadata: dict[str, Any]
    tensors: dict[str, int]


def facts_of_gguf(file: Path) -> ModelFacts:
    """Return facts about the model, such as its width, from the header of a GGUF file.

    If the header cannot be read, all are unknown.
    """
    if (header := read_header(file)) is None:
        return ModelFacts()
    architecture = header.metadata.get("general.architecture")
    has_table = "position_embd.weight" in header.tensors
    try:
        return ModelFacts(
            hidden_size=header.metadata.get(f"{architecture}.embedding_length"),
            max_positions=header.metadata.get(f"{architecture}.context_length") if has_table else None,
            has_biases=any(name.endswith(".bias") for name in header.tensors),
        )
    except ValueError:  # a size that is no positive whole number
        return ModelFacts()


def unread_part(file: Path) -> str | None:
    """Describe content of a GGUF file that transformers would silently leave out; `None` if there is none.

    transformers does not read the scaling of rotary positions; for the architectures in `UNBIASED`, it reads no biases.
    """
    if (header := read_header(file)) is None:
        return None  # reading the model reports it
    metadata, tensors = header
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


def read_header(file: Path) -> Header | None:
    """Read the header of a GGUF file; return `None` if it cannot be read, is damaged or is incomplete."""
    try:
        with open_regular(file) as stream:
            stream.seek(0, os.SEEK_END)
            reader = _Reader(stream, stream.tell())
            stream.seek(0)
            return reader.header()
    except (InstructLabError, OSError, struct.error, KeyError, ValueError):
        return None


class _Reader:
    """A reader of the parts of a header, which never reads more bytes than the file has.

    Args:
        stream: the file, at its first byte.
        size: number of bytes of the file.
    """

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._size = stream, size

    def header(self) -> Header:
        """Read the metadata, and the name and shape of every tensor."""
        _, _, num_tensors, num_entries = self._unpack("4sIQQ")
        metadata, tensors = {}, {}
        for _ in range(num_entries):
            key, (kind,) = self._string(), self._unpack("I")
            metadata[key] = self._value(kind)
        for _ in range(num_tensors):
            name, (num_dimensions,) = self._string(), self._unpack("I")
            *shape, _, _ = self._unpack(f"{num_dimensions}QIQ")  # then the type and the offset
            tensors[name] = math.prod(shape)
        return Header(metadata, tensors)

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            return self._unpack(SCALARS[kind])[0]
        kind, count = self._unpack("IQ")
        if kind == STRING:
            for _ in range(count):
                self._skip(self._unpack("Q")[0])
        else:  # transformers reads no arrays of arrays
            self._skip(count * struct.calcsize(f"<{SCALARS[kind]}"))
        return None

    def _string(self) -> str:
        (length,) = self._unpack("Q")
        return self._read(length).decode("utf-8")

    def _unpack(self, form: str) -> tuple[Any, ...]:
        form = f"<{form}"  # little-endian, without padding
        return struct.unpack(form, self._read(struct.calcsize(form)))

    def _read(self, count: int) -> bytes:
        self._check(count)
        return self._stream.read(count)

    def _skip(self, count: int) -> None:
        self._check(count)
        self._stream.seek(count, os.SEEK_CUR)

    def _check(self, count: int) -> None:
        if count > self._size - self._stream.tell():
            raise ValueError("the header is longer than the file")
