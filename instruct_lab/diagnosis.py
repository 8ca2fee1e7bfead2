"""Describe this machine: package versions, devices, memory, caches, access keys, and what cannot run here."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from packaging.requirements import Requirement

from instruct_lab.config.build import build
from instruct_lab.config.classes import TARGET
from instruct_lab.config.compose import COMPOSITION_ERRORS, PRIMARY, compose
from instruct_lab.config.options import GROUPS, STUDIES, Option, options, packaged_conf, roots
from instruct_lab.config.permissions import is_lab_allowed
from instruct_lab.config.yaml_text import read_yaml_text
from instruct_lab.errors import InstructLabError, one_line
from instruct_lab.experiment import rules
from instruct_lab.files import user_path
from instruct_lab.model.hardware import computes_bfloat16, cpu_instructions, no_gpu
from instruct_lab.records.environment import DISTRIBUTION, declared_requirements, hardware

SHOWN = ("torch", "pytorch-lightning", "transformers", "tokenizers", "peft", "datasets", "hydra-core", "wandb")
"""The packages whose versions are printed; `--json` lists all packages that this project requires."""
VARIABLES = ("HF_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_URI")
SETTINGS = ("HF_HUB_OFFLINE", "HF_HOME", "WANDB_MODE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "INSTRUCT_LAB_CACHE")
"""Environment variables that affect a run and never contain a secret."""
LITTLE_MEMORY, LITTLE_DISK = 8e9, 10e9


def diagnose() -> dict[str, Any]:
    """Return all facts about this machine as a JSON object.

    Returns:
        A dictionary with these keys:
        `versions`: the versions of instruct_lab and Python; `platform`: the operating system;
        `packages`: the installed version of each required package, or null;
        `problems`: what is wrong with required packages; `extras`: the packages that each optional extra still lacks;
        `hardware`: CPU, GPUs and memory; `no_gpu` in it is the reason why there is no GPU;
        `precision`: the default precision of training;
        `caches`: the path of each cache, its size and the free space on its disk, both in bytes;
        `keys`: whether each access key is set (never its value); `settings`: environment variables that affect runs;
        `lab`: the folder with the user's own options; `refused`: the reason for each option that cannot run here;
        `slow`: reasons why training is slow here.
    """
    capability = _cpu_capability()  # imports torch, so that its GPUs and threads are known
    required, extras = declared_requirements()
    found: dict[str, Any] = {
        "versions": {DISTRIBUTION: _version(DISTRIBUTION), "python": platform.python_version()},
        "platform": platform.platform(),
        "packages": {one.name: _version(one.name) for one in required},
        "problems": [text for one in required if (text := _fault(one))],
        "extras": {name: [one.name for one in of if _fault(one)] for name, of in extras.items()},
        "hardware": {**hardware(), "cpu_instructions": cpu_instructions(), "no_gpu": no_gpu()},
        "precision": "bf16-mixed" if computes_bfloat16() else "32-true",
        "caches": _caches(),
        "keys": _keys(),
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
        "lab": _lab(),
        "refused": dict(_refused()),
    }
    found["hardware"]["cpu_capability"] = capability
    return {**found, "slow": list(_slow(found))}


# ---- packages


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _fault(requirement: Requirement) -> str | None:
    """Return why a required package is unsuitable: it is missing or has a wrong version; `None` if it is suitable."""
    version = _version(requirement.name)
    if version is None:
        return f"{requirement.name} is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name} {version} is installed, and {requirement.specifier} is needed"
    return None


# ---- machine


def _cpu_capability() -> str | None:
    """Return the vector instructions that torch uses on this CPU, such as AVX2; `None` if torch cannot be imported."""
    with contextlib.suppress(ImportError, OSError):
        import torch

        return torch.backends.cpu.get_cpu_capability()
    return None


def _caches() -> dict[str, dict[str, Any]]:
    paths = {"instruct_lab": user_path(str(compose([]).config.cache_path)), "runs": Path("runs").absolute()}
    with contextlib.suppress(ImportError):
        from huggingface_hub import constants

        paths["huggingface"] = Path(constants.HF_HUB_CACHE)
    return {name: {"path": str(path), **_sizes(path)} for name, path in paths.items()}


def _sizes(path: Path) -> dict[str, int | None]:
    """Return the total size of a folder's files, and the free space on its disk, both in bytes."""
    existing = next((one for one in (path, *path.parents) if one.exists()), None)
    try:
        free = None if existing is None else shutil.disk_usage(existing).free
    except OSError:
        free = None
    return {"bytes": sum(_file_sizes(path)), "free_bytes": free}


def _file_sizes(folder: Path) -> Iterator[int]:
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(parent, name))
            except OSError:
                continue
            yield status.st_size


def _keys() -> dict[str, bool]:
    """Return whether each access key is set, in an environment variable or in a file such as `~/.netrc`."""
    import netrc

    found = {name: bool(os.environ.get(name)) for name in VARIABLES}
    with contextlib.suppress(ImportError):
        from huggingface_hub import get_token

        found["HF_TOKEN"] = bool(get_token())
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        found["WANDB_API_KEY"] |= netrc.netrc().authenticators("api.wandb.ai") is not None
    return found


def _lab() -> dict[str, Any] | None:
    """Return the folder with the user's own options, and whether its Python files may run; `None` if there is none."""
    return {"path": str(Path.cwd()), "code_allowed": is_lab_allowed(Path.cwd())} if len(roots()) > 1 else None


# ---- what cannot run, and what is slow


def _refused() -> Iterator[tuple[str, str]]:
    """Yield each option that needs a package, a program or a GPU that this machine lacks, with the reason."""
    primary = yaml.safe_load(read_yaml_text(packaged_conf() / f"{PRIMARY}.yaml"))
    values = {key: value for key, value in primary.items() if key not in ("defaults", TARGET)}
    for option in (option for group in GROUPS if group != STUDIES for option in options(group)):
        try:
            reasons = dict.fromkeys(_reasons(option, values))
        except (InstructLabError, OSError, *COMPOSITION_ERRORS):
            continue  # `check --all` reports files that cannot be read
        if reasons:
            yield f"{option.group}={option.name}", "; ".join(reasons)


def _reasons(option: Option, primary: dict[str, Any]) -> Iterator[str]:
    """Yield the reasons why the components that an option configures cannot run on this machine.

    Args:
        option: the option.
        primary: the values in Hydra's primary config file, which the option's values override.
    """
    text, content = read_yaml_text(option.path), _content(option.path)
    package = re.search(r"^# @package (\S+)", text, re.MULTILINE)
    base = package[1] if package else option.group.replace("/", ".")
    tree = OmegaConf.create({})
    OmegaConf.update(tree, base, content, force_add=True) if base != "_global_" else tree.update(content)
    merged = OmegaConf.merge({key: primary[key] for key in tree if key in primary}, tree)
    assert isinstance(merged, DictConfig)
    result = build(merged)
    for problem in (*result.problems, *rules.problems(result.built), *rules.training_problems(result.built)):
        if problem.kind == "unavailable_here":
            yield one_line(problem.reason)


def _content(path: Path) -> Any:
    """Return the values of an option file, merged with those of its group's options that its `defaults` list names."""
    content = yaml.safe_load(read_yaml_text(path)) or {}
    names = [name for name in content.pop("defaults", None) or [] if isinstance(name, str)]
    files = [file for name in names if (file := path.with_name(f"{name}.yaml")).is_file()]
    return OmegaConf.merge(*map(_content, files), content)


def _slow(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the reasons why training is slow or may fail on this machine."""
    machine = found["hardware"]
    if machine["no_gpu"]:
        cores = f"{machine['cpu_count_usable']} CPU core{'' if machine['cpu_count_usable'] == 1 else 's'}"
        yield f"{machine['no_gpu']}: training runs on {cores}; choose models below a billion parameters"
        if platform.machine() in ("x86_64", "AMD64") and "avx2" not in machine["cpu_instructions"]:
            yield "the CPU has no AVX2: matrix products are several times slower"
        if not {"bf16", "amx"} & set(machine["cpu_instructions"]):
            yield "the CPU has no bfloat16 arithmetic: trainer.precision=bf16-mixed saves memory and costs time"
    memory = machine["memory_bytes"]
    if memory is not None and memory < LITTLE_MEMORY:
        yield f"{memory / 1e9:.0f} GB of memory: choose small models, and tuning=lora instead of tuning=full"
    for name, cache in found["caches"].items():
        if cache["free_bytes"] is not None and cache["free_bytes"] < LITTLE_DISK:
            yield f"{cache['free_bytes'] / 1e9:.1f} GB are free for {name} ({cache['path']})"
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        yield "HF_HUB_OFFLINE is set: options that download something find only what is already in the cache"


# ---- as text


def render(found: Mapping[str, Any]) -> str:
    """Render the facts from `diagnose` as text."""
    machine = found["hardware"]
    versions = {**found["versions"], **{name: found["packages"].get(name) for name in SHOWN}}
    gpus = [f"{gpu['name']}, {gpu['memory_bytes'] / 1e9:.0f} GB" for gpu in machine["gpus"]]
    memory = "unknown" if machine["memory_bytes"] is None else f"{machine['memory_bytes'] / 1e9:.1f} GB"
    speed = ", ".join(machine["cpu_instructions"]) or "no vector instructions known"
    missing = {name: names for name, names in found["extras"].items() if names}
    sections: list[tuple[str, Iterable[str]]] = [
        ("versions", [f"{name} {version}" for name, version in versions.items() if version]),
        ("problems", found["problems"]),
        ("CPU", [f"{machine['cpu_model']}, {machine['cpu_count_usable']} of {machine['cpu_count']} cores, {speed}"]),
        ("memory", [memory]),
        ("GPU", gpus or [f"none: {machine['no_gpu']}"]),
        ("default precision", [found["precision"]]),
        ("caches", [_render_cache(name, cache) for name, cache in found["caches"].items()]),
        ("keys", [f"{name}: {'set' if is_set else 'not set'}" for name, is_set in found["keys"].items()]),
        ("settings", [f"{name}={value}" for name, value in found["settings"].items()]),
        ("lab", [_render_lab(found["lab"])] if found["lab"] else []),
        ("extras missing", [_render_extra(name, names) for name, names in missing.items()]),
        ("refused here", [f"{option}: {reason}" for option, reason in found["refused"].items()]),
        ("slow here", found["slow"]),
    ]
    return "\n".join(line for title, lines in sections for line in _render_section(title, list(lines)))


def _render_section(title: str, lines: list[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines)] if lines else []


def _render_cache(name: str, cache: Mapping[str, Any]) -> str:
    free = "" if cache["free_bytes"] is None else f", {cache['free_bytes'] / 1e9:.1f} GB free"
    return f"{name}: {cache['bytes'] / 1e9:.2f} GB in {cache['path']}{free}"


def _render_lab(lab: Mapping[str, Any]) -> str:
    code = "may run" if lab["code_allowed"] else f"may not run: instruct-lab allow {lab['path']}"
    return f"{lab['path']} (its Python files {code})"


def _render_extra(name: str, missing: list[str]) -> str:
    return f"{', '.join(missing)}: pip install 'instruct-lab[{name}]'"
