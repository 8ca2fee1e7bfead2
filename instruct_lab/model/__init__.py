"""Weights and tokenizers.

In: a source of weights (Hub, local folder, GGUF file, pinned package asset, random from a config). Out: a plain,
savable model and a tokenizer whose traps are handled.
"""

from instruct_lab.model.base import Model
from instruct_lab.model.families import Decoder, Encoder, EncoderDecoder, LanguageModel
from instruct_lab.model.loaded import LoadedModel
from instruct_lab.model.quantization import Quantization
from instruct_lab.model.rope_scaling import RopeScaling
from instruct_lab.model.tokenizer import Tokenizer
from instruct_lab.model.trained_tokenizer import TrainedTokenizer
from instruct_lab.model.weights.base import GGUF, Hub, LocalFolder, Random, Weights
from instruct_lab.model.weights.package_folder import PackageFolder

__all__ = [
    "GGUF",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Hub",
    "LanguageModel",
    "LoadedModel",
    "LocalFolder",
    "Model",
    "PackageFolder",
    "Quantization",
    "Random",
    "RopeScaling",
    "Tokenizer",
    "TrainedTokenizer",
    "Weights",
]
