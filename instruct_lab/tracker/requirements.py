"""Packages that Lightning's loggers need beside Lightning."""

from __future__ import annotations

import importlib.util

PACKAGES = {
    "pytorch_lightning.loggers.TensorBoardLogger": "tensorboard",
    "pytorch_lightning.loggers.MLFlowLogger": "mlflow",
    "pytorch_lightning.loggers.CometLogger": "comet_ml",
    "pytorch_lightning.loggers.NeptuneLogger": "neptune",
}
EXTRAS = {"tensorboard": "dashboard", "mlflow": "mlflow"}
"""The extra of this package that installs a logger's package."""


def missing_package(target: str) -> str | None:
    """Which package a logger needs that is not installed, and how to install it; `None` if nothing is missing.

    Args:
        target: the dotted name of the logger's class.
    """
    package = PACKAGES.get(target)
    if package is None or importlib.util.find_spec(package) is not None:
        return None
    install = f"'instruct-lab[{EXTRAS[package]}]'" if package in EXTRAS else package
    return f"needs the package {package}, which is not installed: pip install {install}"
