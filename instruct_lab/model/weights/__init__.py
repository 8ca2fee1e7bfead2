"""Where weights and tokenizers come from."""

from instruct_lab.model.weights.base import GGUF, Hub, LocalFolder, Random, Weights
from instruct_lab.model.weights.package_folder import PackageFolder

__all__ = ["GGUF", "Hub", "LocalFolder", "PackageFolder", "Random", "Weights"]
