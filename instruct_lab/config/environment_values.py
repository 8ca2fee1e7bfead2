"""Keep secrets and values of environment variables out of the configs in records.

A recorded config has the interpolation `${oc.env:NAME}` in their place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from instruct_lab import secrets
from instruct_lab.config.interpolation import bounded, escape_interpolations
from instruct_lab.errors import InstructLabError, Problem

EXPOSED = ("name", "runs_path", "cache_path", "tracker")
"""Top-level config keys whose values become names of folders or are sent to servers, where others may read them."""
ADDRESS = re.compile(r"(?:ur[il]|host|address|endpoint)$", re.IGNORECASE)
"""Matches the name of a tracker setting whose value is a server's address; such an address may contain a password."""


def to_plain_config(config: DictConfig) -> dict[str, Any]:
    """Convert a config to dictionaries and lists with interpolations resolved, but without secrets.

    If a text contains a secret, or a value that is read from an environment variable, this part is replaced by
    `${oc.env:NAME}`, and the text becomes an `Interpolated` text. Values that clearly are no secrets, such as numbers,
    paths and names of users and machines, are resolved even if they are read from the environment, and so are values
    that are not texts. Texts that become folder names or are sent to servers (`EXPOSED`), such as `name`, keep the
    values of environment variables too; only secrets in them are replaced.
    """
    with bounded():
        plain = _plain(config, "")
    assert isinstance(plain, dict)
    return plain


def remember_written(node: Any, key: str = "") -> None:
    """Register the secrets that a composed config contains, so that they are hidden in all later output.

    Args:
        node: the config, or a mapping or list inside it.
        key: full key of this mapping or list.
    """
    if isinstance(node, DictConfig | ListConfig) and isinstance(node._content, dict | list):
        names = list(node) if isinstance(node, DictConfig) else range(len(node))
        for name in names:
            inner: Any = node._get_node(name)
            full = f"{key}.{name!s}" if key else str(name)
            if isinstance(inner, DictConfig | ListConfig):
                remember_written(inner, full)
            elif inner is not None and isinstance(inner._value(), str) and not inner._is_interpolation():
                _written_secrets(inner._value(), full)


def _plain(node: Any, key: str) -> Any:
    if isinstance(node, DictConfig) and not node._is_none():
        return {str(name): _plain_value(node, name, f"{key}.{name!s}" if key else str(name)) for name in node}
    if isinstance(node, ListConfig) and not node._is_none():
        return [_plain_value(node, index, f"{key}.{index}") for index in range(len(node))]
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node


def _plain_value(parent: Any, name: Any, key: str) -> Any:
    if OmegaConf.is_missing(parent, name):
        return "???"
    with secrets.collect_readings() as readings:
        value = parent[name]
    if not isinstance(value, str):
        return _plain(value, key)
    if key.partition(".")[0] in EXPOSED:  # values that are no secrets appear in names and in trackers anyway
        readings = {}
    return _without_secrets(value, {**_written_secrets(value, key), **readings})


def _written_secrets(value: str, key: str) -> dict[str, str]:
    """Find the secrets in a text of a config, and find or set an environment variable that holds each of them.

    Args:
        value: the text.
        key: full key of the text.

    Returns:
        The name of each secret's environment variable, keyed by the secret.
    """
    found = [value] if secrets.looks_like_secret(key, value) else secrets.find_forms(value)
    return {**secrets.contained(value), **{text: secrets.variable_for(text, key) for text in found}}


def _without_secrets(value: str, variables: Mapping[str, str]) -> str:
    """Replace the values of environment variables in a text by interpolations `${oc.env:NAME}`.

    The text between them is escaped, so that it contains no other interpolations. If the text contains none of the
    values, it is returned unchanged.

    Args:
        value: the text.
        variables: names of the environment variables, keyed by their values.
    """
    present = sorted((text for text in variables if text and text in value), key=len, reverse=True)
    if not present:
        return value
    parts = re.split(f"({'|'.join(map(re.escape, present))})", value)
    texts = []
    for index, part in enumerate(parts):
        if index % 2:
            texts.append(f"${{oc.env:{variables[part]}}}")
        else:
            ending = re.search(r"\\*\Z", part)
            doubled = ending[0] if ending and index < len(parts) - 1 else ""  # else it would escape the interpolation
            texts.append(escape(part) + doubled)
    return secrets.Interpolated("".join(texts))


def escape(value: Any) -> Any:
    """Escape `${...}` in the texts of a config, so that OmegaConf does not read them as interpolations.

    Texts of the class `Interpolated` are not escaped, because they contain interpolations on purpose.

    Args:
        value: the config as dictionaries and lists, or a value in it.
    """
    if isinstance(value, secrets.Interpolated):
        return str(value)
    if isinstance(value, str):
        return escape_interpolations(value)
    if isinstance(value, Mapping):
        return {key: escape(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [escape(inner) for inner in value]
    return value


def to_omegaconf(config: Mapping[str, Any]) -> DictConfig:
    """Convert a config from dictionaries and lists to OmegaConf.

    Its `Interpolated` texts become interpolations, which read environment variables when they are resolved.
    """
    return OmegaConf.create(escape(config))


def require_variables(config: Mapping[str, Any], where: str) -> None:
    """Check that each environment variable that a recorded config refers to by `${oc.env:NAME}` is set.

    Args:
        config: the recorded config, as dictionaries and lists with `Interpolated` texts.
        where: name of the run, for the error message.

    Raises:
        InstructLabError: a variable is not set.
    """
    keys: dict[str, list[str]] = {}
    for key, value in _texts(config, ""):
        for variable in re.findall(r"\$\{oc\.env:(\w+)\}", value):
            if variable not in os.environ:
                keys.setdefault(variable, []).append(key)
    if keys:
        raise InstructLabError(
            "The record holds no secrets and no values from the environment, and these variables are not set: "
            + "; ".join(f"{variable} (the value of {', '.join(read)})" for variable, read in keys.items()),
            where=where,
            do=f"set them as they were when the run started: export {next(iter(keys))}=...",
        )


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{key}.{index}")
    elif isinstance(value, secrets.Interpolated):
        yield key, str(value)


def read_plain(node: Any) -> Any:
    """Convert a recorded config to dictionaries and lists.

    A text that reads an environment variable (`${oc.env:NAME}`) becomes an `Interpolated` text; other interpolations
    are resolved.
    """
    if isinstance(node, DictConfig) and not node._is_none():
        return {name: _read_value(node, name) for name in node}
    if isinstance(node, ListConfig) and not node._is_none():
        return [_read_value(node, index) for index in range(len(node))]
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node


def _read_value(parent: Any, name: Any) -> Any:
    node = parent._get_node(name)
    if OmegaConf.is_missing(parent, name):
        return "???"
    if not node._is_interpolation():
        return read_plain(parent[name])
    raw = str(node._value())
    if "oc.env" in raw:
        return secrets.Interpolated(raw)
    with secrets.collect_readings() as readings:
        value = parent[name]
    return secrets.Interpolated(raw) if readings else read_plain(value)


def texts_of(config: Any) -> Any:
    """Return a copy of a config in which `Interpolated` texts are of the type `str`, for libraries that check types.

    Args:
        config: the config as dictionaries and lists, or a value in it.
    """
    if isinstance(config, Mapping):
        return {key: texts_of(inner) for key, inner in config.items()}
    if isinstance(config, list | tuple):
        return [texts_of(inner) for inner in config]
    return str(config) if isinstance(config, str) else config


def exposures(config: DictConfig) -> Iterator[Problem]:
    """Yield a problem for each setting that would put a secret into a folder's name or send it to a tracker's server.

    A setting of a tracker that is meant for a secret, such as an API key, is not a problem.
    """
    for name in EXPOSED:
        if name in config:
            yield from _exposures(config, name, name)


def _exposures(parent: Any, name: Any, key: str) -> Iterator[Problem]:
    try:
        with secrets.collect_readings() as readings:
            value = None if OmegaConf.is_missing(parent, name) else parent[name]
    except OmegaConfBaseException:
        return  # building reports it
    if isinstance(value, DictConfig | ListConfig):
        inner = value if isinstance(value, DictConfig) else range(len(value))
        for one in () if value._is_none() else inner:
            yield from _exposures(value, one, f"{key}.{one!s}")
        return
    if not isinstance(value, str) or (key.startswith("tracker.") and _may_hold_secret(key.rpartition(".")[2], value)):
        return
    if not secrets.contained(value) and not secrets.find_forms(value):
        return
    read = f", which is read from {' and '.join(sorted(set(readings.values())))}" if readings else ""
    reason = (
        f"names a folder or is sent to a server, but its value looks like a secret{read}: write a value that is none "
        f"(the shell can insert it: {key}=$VARIABLE)"
    )
    yield Problem(key=key, reason=reason)


def _may_hold_secret(name: str, value: str) -> bool:
    """Whether a setting of a tracker is allowed to contain a secret.

    It is if the setting is meant for a secret, such as an API key, or for a server's address, since an address may
    contain a password.

    Args:
        name: name of the setting.
        value: its value.
    """
    return bool(ADDRESS.search(name) or secrets.OFTEN_NAMED.search(name)) or secrets.looks_like_secret(name, value)
