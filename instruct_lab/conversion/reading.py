"""Read a config of another tool from a YAML file or from command-line arguments, and find out which tool it is for."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from instruct_lab.config.yaml_text import read_yaml_text
from instruct_lab.conversion.axolotl import AXOLOTL
from instruct_lab.conversion.llamafactory import LLAMA_FACTORY
from instruct_lab.conversion.rules import Tool, find_rule
from instruct_lab.conversion.trl import METHODS, TRL
from instruct_lab.errors import InstructLabError, wrap_errors

TOOLS: Mapping[str, Tool] = {"llamafactory": LLAMA_FACTORY, "axolotl": AXOLOTL, "trl": TRL}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
LITERALS: Mapping[str, Any] = {"true": True, "false": False, "none": None, "null": None, "~": None}
TEXTS = ("revision", "model_revision", "revision_of_model", "run_name", "wandb_name", "report_to", "eval_strategy")
"""Settings whose values remain texts even if they look like a number, a boolean or null."""
NEW_LAYOUT = frozenset(
    ["train_dataset", "kernel_config", "dist_config", "quant_config", "peft_config", "sample_backend", "model_class"]
)
"""Settings by which LLaMA-Factory's new config layout (`v1`) is recognised; it cannot be converted."""
USES = frozenset(["export_dir", "infer_backend"])
"""Settings of LLaMA-Factory that are in configs for merging or serving a model, which train nothing."""
WHAT_TO_TYPE = (
    "name a YAML file (instruct-lab convert FILE.yaml), or the arguments: instruct-lab convert trl sft --KEY VALUE"
)


@dataclasses.dataclass(frozen=True)
class Source:
    """A config of another tool.

    Args:
        tool: the tool: `llamafactory`, `axolotl` or `trl`.
        method: for TRL, the training method, such as `dpo`. It is read from the command, as in `trl dpo`, or from the
            name of the file or its folder. Empty if neither contains one, and for other tools.
        config: the settings in the config, keyed by name.
        folder: the folder of the config's file, to which paths in the config are relative.
        name: the name for the study: the name of the config's file or, for a command, the training method.
        where: the file or command, for messages.
    """

    tool: str
    method: str
    config: Mapping[str, Any]
    folder: Path
    name: str
    where: str


def read_source(words: Sequence[str], tool: str | None = None) -> Source:
    """Read a config of another tool from a YAML file or from command-line arguments.

    Args:
        words: either the path of a YAML file, or a command of the other tool with its arguments.
        tool: the tool: `llamafactory`, `axolotl` or `trl`; `None`: it is recognised by the settings.

    Raises:
        InstructLabError: there is no such file, it is not valid YAML, or it is not a config of one of the tools.
    """
    if len(words) == 1 and not words[0].startswith("-"):
        path = Path(words[0])
        return _source(_read(path), tool, _method_in(path), path.parent, path.stem, str(path))
    method, folder = "", Path()
    config: dict[str, Any] = {}
    arguments, command = list(words), list[str]()
    commands = (index for index, word in enumerate(arguments) if word.endswith(".py") or word in METHODS)
    starts = [index for index in commands if index == 0 or not arguments[index - 1].startswith("--")]
    if starts:
        command, arguments = arguments[: starts[0] + 1], arguments[starts[0] + 1 :]
        method = _method_in(Path(command[-1]))
    typed = _parse_arguments(arguments)
    if isinstance(file := typed.pop("config", None), str):
        config, folder = _read(Path(file)), Path(file).parent
        method = method or _method_in(Path(file))
    where = " ".join(command) or "the arguments"
    is_trl = tool is None and bool(method)
    return _source({**config, **typed}, "trl" if is_trl else tool, method, folder, method or "converted", where)


def _source(config: Any, tool: str | None, method: str, folder: Path, name: str, where: str) -> Source:
    if not isinstance(config, dict) or not config:
        raise InstructLabError(
            "This is not a config: a mapping of keys to values is expected", where=where, do=WHAT_TO_TYPE
        )
    config = {str(key): _to_value(str(key), value) for key, value in config.items()}
    found = tool or _recognize(config, where)
    if "dataset" not in config and USES & config.keys():
        do = "train, then type instruct-lab export RUN DIR, instruct-lab chat RUN or instruct-lab push RUN OWNER/NAME"
        raise InstructLabError("This config merges or serves a model and trains nothing", where=where, do=do)
    safe = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).strip("._-") or "converted"
    return Source(found, method if found == "trl" else "", config, folder, safe, where)


def _recognize(config: Mapping[str, Any], where: str) -> str:
    """Return the tool for which a config was written.

    Each tool has settings that are typical of it (`Tool.signs`). The result is the tool of which the config has the
    most typical settings. If several tools have equally many, it is the one that has rules for most of the settings.

    Args:
        config: the settings, keyed by name.
        where: the file or command, for error messages.

    Raises:
        InstructLabError: the config has no typical setting of any tool, is a config of this framework, or is written
            for LLaMA-Factory's new config layout `v1`, which cannot be converted.
    """
    counts = {name: len(tool.signs & config.keys()) for name, tool in TOOLS.items()}
    known = {name: sum(find_rule(tool, key) is not None for key in config) for name, tool in TOOLS.items()}
    best = max(counts, key=lambda name: (counts[name], known[name]))
    if "_target_" in config or "defaults" in config:
        do = "type instruct-lab check experiments=NAME"
        raise InstructLabError("This is a config of this framework and needs no conversion", where=where, do=do)
    if "model" in config and NEW_LAYOUT & config.keys() and counts["axolotl"] <= counts["llamafactory"]:
        what = "This config has the layout of LLaMA-Factory's v1 examples, which is not converted"
        do = "write a study, with model=hub:ORG/NAME, data=, tuning.r= and batching.batch_size= for its model, "
        do += "train_dataset, peft_config.r and micro_batch_size, or convert a config with model_name_or_path"
        raise InstructLabError(what, where=where, do=do)
    if not counts[best]:
        names = ", ".join(list(config)[:8])
        what = f"This is a config of none of LLaMA-Factory, axolotl and TRL (its keys: {names})"
        raise InstructLabError(what, where=where, do="name the tool with --from, or another file")
    return best


def _read(path: Path) -> Any:
    do = "correct the path"
    with wrap_errors(OSError, what="The config cannot be read", where=str(path), do=do):
        text = read_yaml_text(path)
    with wrap_errors(yaml.YAMLError, ValueError, what="The file is not valid YAML", where=str(path), do="correct it"):
        return yaml.safe_load(text)


def _parse_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Convert command-line arguments such as `--learning_rate 1e-4` to a mapping from settings to values.

    `--key` without a value sets `key` to true, `--no_key` sets `key` to false, and several values become a list.
    """
    config: dict[str, Any] = {}
    key = ""
    for word in words:
        if word.startswith("--") and len(word) > 2:
            key, is_assignment, value = word[2:].partition("=")
            key = key.replace("-", "_")
            if key.startswith("no_") and not is_assignment and key != "no_cuda":
                config[key.removeprefix("no_")] = False
                key = ""
            else:
                config[key] = value if is_assignment else True
                key = "" if is_assignment else key
        elif not key:
            what = f"The argument {word!r} follows no --KEY"
            raise InstructLabError(what, where=" ".join(words[:6]), do=WHAT_TO_TYPE)
        elif config[key] is True:
            config[key] = word
        else:
            earlier = config[key]
            config[key] = [*(earlier if isinstance(earlier, list) else [earlier]), word]
    return config


def _to_value(key: str, value: Any) -> Any:
    """Convert a text such as `2e-4`, `true` or `null` to a number, a boolean or `None`.

    YAML 1.1 reads `2e-4` as a text. Any other text is returned without the white space around it. Values that are not
    texts, and the values of the settings in `TEXTS`, are returned unchanged.

    Args:
        key: name of the setting.
        value: its value.
    """
    if not isinstance(value, str) or key in TEXTS:
        return value
    text = value.strip()
    if text.casefold() in LITERALS and key != "gradient_checkpointing_kwargs":
        return LITERALS[text.casefold()]
    if NUMBER.fullmatch(text):
        number = float(text)
        return int(number) if number.is_integer() and "." not in text and "e" not in text.casefold() else number
    return text


def _method_in(path: Path) -> str:
    """Return the training method of TRL that occurs in the name of a file or of its folder; empty if there is none."""
    for name in (path.stem, path.parent.name):
        words = "_".join(["", *re.split(r"[\W_]+", name.casefold()), ""])
        if found := [method for method in METHODS if f"_{method}_" in words]:
            return max(found, key=len)
    return ""
