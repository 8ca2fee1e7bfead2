"""Find the description of a device by its name or in a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pydantic
import yaml

from instruct_lab.config.spelling import nearest
from instruct_lab.errors import InstructLabError, one_line
from instruct_lab.files import read_regular, user_path
from instruct_lab.planning.device import THIS_MACHINE, Device
from instruct_lab.planning.this_machine import measure_this_machine

FOLDER = Path(__file__).parent / "devices"


def device_names() -> list[str]:
    """Return the names of the devices that files in `devices/` describe, and `cpu`, the processor of this machine."""
    return sorted([*(file.stem for file in FOLDER.glob("*.yaml")), THIS_MACHINE])


def find_device(name: str) -> Device:
    """Return the device with a given name, or the device that a YAML file describes.

    The device `cpu` is the processor of this machine; its speed is measured.

    Args:
        name: a name that `device_names` returns, or the path of a YAML file.

    Raises:
        InstructLabError: there is no such device, or the file does not describe one.
    """
    if name == THIS_MACHINE:
        return measure_this_machine()
    known = FOLDER / f"{name}.yaml"
    if name in device_names():
        return read_device(known)
    path = user_path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return read_device(path)
    starting = [known for known in device_names() if known.startswith(name.casefold())] if name else []
    close = " or ".join(starting) or nearest(name, device_names())
    raise InstructLabError(
        f"There is no device {name!r}",
        where="--device",
        do=f"{f'did you mean {close}? ' if close else ''}Choose one of {', '.join(device_names())}, or write a file "
        f"like {FOLDER / 'a100-40gb.yaml'} for another device and give its path",
    )


def read_device(path: Path) -> Device:
    """Read the description of a device from a YAML file.

    Raises:
        InstructLabError: the file cannot be read, or does not describe a device.
    """
    fields = ", ".join(field.name for field in dataclasses.fields(Device) if field.name != "name")
    advice = f"write a mapping with the fields {fields}; {FOLDER / 'a100-40gb.yaml'} is an example"
    try:
        content: Any = yaml.safe_load(read_regular(path))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        what = f"The description of the device cannot be read ({one_line(error)})"
        raise InstructLabError(what, where=str(path), do=advice) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InstructLabError("This file does not describe a device", where=str(path), do=advice)
    try:
        device = Device(**{"name": path.stem, **content})
    except (pydantic.ValidationError, TypeError) as error:
        found = error.errors()[0] if isinstance(error, pydantic.ValidationError) else {"loc": (), "msg": str(error)}
        key = ".".join(map(str, found["loc"]))
        what = f"This file does not describe a device: {key + ': ' if key else ''}{found['msg']}"
        raise InstructLabError(what, where=str(path), do=advice) from error
    if not device.teraflops:
        raise InstructLabError("The device has no arithmetic: teraflops is empty", where=str(path), do=advice)
    return device
