"""Quote overrides: quotes inside an override for Hydra's parser, and quotes around the override for the shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import GrammarParseError
from omegaconf.grammar_parser import parse as parse_interpolations

from instruct_lab.config.interpolation import escape_interpolations

BLANKS = " \t"
_OPENING, _CLOSING = "[{(", "]})"


def parse_or_none(text: str) -> Override | None:
    """Parse an override in Hydra's syntax; return `None` if Hydra refuses it."""
    try:
        return OverridesParser.create().parse_override(text)
    except (HydraException, ValueError):
        return None


def quote_value(text: str) -> str:
    """Put a text in quotes for Hydra's syntax, so that the composed config contains exactly this text."""
    if "${" in text and not _is_interpolation(text):
        text = escape_interpolations(text)
    return '"' + re.sub(r'(\\*)("|$(?!\n))', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text) + '"'


def to_hydra(value: Any) -> str:
    """Write a config value in the syntax that Hydra uses for the values of overrides."""
    if isinstance(value, str):
        override = parse_or_none(f"key={value}")
        return value if value and override is not None and override.value() == value else quote_value(value)
    if isinstance(value, list):
        return f"[{','.join(map(_to_item, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{_to_item(inner)}" for name, inner in value.items()) + "}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _to_item(value: Any) -> str:
    """Write an item of a list or mapping in Hydra's syntax.

    A text with a backslash is quoted, because a backslash at its end would escape the bracket or comma that follows.
    """
    return quote_value(value) if isinstance(value, str) and "\\" in value else to_hydra(value)


def _is_interpolation(text: str) -> bool:
    try:
        parse_interpolations(text)
    except GrammarParseError:
        return False
    return True


def quote_for_shell(argument: str) -> str:
    """Quote a command-line argument for bash; if some characters do not print, write it as `$'...'` with escapes."""
    if argument.isprintable():
        return shlex.quote(argument)
    escaped = argument.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(char if char.isprintable() else _bash_escape(char) for char in escaped) + "'"


def _bash_escape(char: str) -> str:
    common = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return common.get(char) or "".join(f"\\x{byte:02x}" for byte in char.encode(errors="surrogateescape"))


def quoted_override(text: str) -> str | None:
    """Add quotes to an override that Hydra refuses, so that Hydra accepts it.

    If the value is a list, a mapping or `choice(...)`, its items are quoted separately; any other value is quoted as a
    whole.

    Returns:
        The override with quotes; `None` if Hydra refuses it even then.
    """
    key, is_assignment, value = text.partition("=")
    if not is_assignment:
        return None
    key, value = key.strip(BLANKS), value.strip(BLANKS)
    candidates = [f"{key}={value}", f"{key}={_repair(value)}", f"{key}={quote_value(value)}"]
    above, _, name = key.rpartition(".")
    if above and " " in name:  # a key with spaces can only be written in a mapping
        candidates.append(f"{above}={{{name}: {_repair(value)}}}")
    return next((candidate for candidate in candidates if _is_assignment(candidate)), None)


def several_values(text: str) -> str | None:
    """Rewrite an override with a comma-separated value such that Hydra sweeps over the values between the commas.

    A value is quoted if Hydra refuses it without quotes.

    Args:
        text: the override that the user typed.

    Returns:
        The rewritten override; `None` if its value has no comma, or if Hydra refuses it with quotes too.
    """
    key, _, value = text.partition("=")
    parts = _split(value)
    candidate = f"{key.strip(BLANKS)}={','.join(map(_repair, parts))}"
    return candidate if len(parts) > 1 and _is_assignment(candidate) else None


def _is_assignment(text: str) -> bool:
    override = parse_or_none(text)
    return override is not None and bool(override.key_or_group)


def _repair(value: str) -> str:
    """Add quotes to a value unless Hydra accepts it without quotes as one value.

    The items of a list, a mapping or `choice(...)` are quoted separately; any other value is quoted as a whole.
    """
    override = parse_or_none(f"key={value}")
    if value and override is not None and not override.is_sweep_override():
        return value
    if value.startswith("[") and _closes_at_end(value):
        return f"[{','.join(_repair(item) for item in _split(value[1:-1]))}]"
    if value.startswith("choice(") and _closes_at_end(value.removeprefix("choice")):
        return f"choice({','.join(_repair(item) for item in _split(value[7:-1]))})"
    if value.startswith("{") and _closes_at_end(value):
        pairs = [item.partition(":") for item in _split(value[1:-1])]
        if all(separator and name.strip(BLANKS) for name, separator, _ in pairs):
            repaired = (f"{name.strip(BLANKS)}:{_repair(inner.strip(BLANKS))}" for name, _, inner in pairs)
            return "{" + ",".join(repaired) + "}"
    return quote_value(value)


def _closes_at_end(value: str) -> bool:
    """Whether a text's last character is the bracket that closes the one that its first character opens."""
    depths = [depth for depth, _ in _depths(value)]
    return value[-1] in _CLOSING and depths[-1] == 0 and 0 not in depths[:-1]


def _split(text: str) -> list[str]:
    """Split a text at the commas that are outside brackets and quotes."""
    parts = [""]
    for depth, char in _depths(text):
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip(BLANKS) for part in parts]


def _depths(text: str) -> Iterator[tuple[int, str]]:
    """Yield each character of a text and how many brackets and quotes are still open after it."""
    depth, quote, before = 0, "", ""
    for char in text:
        if quote:
            quote = "" if char == quote and before != "\\" else quote
        elif char in "'\"" and text.count(char) % 2 == 0:
            quote = char
        elif char in _OPENING:
            depth += 1
        elif char in _CLOSING:
            depth -= 1
        before = char
        yield depth + bool(quote), char
