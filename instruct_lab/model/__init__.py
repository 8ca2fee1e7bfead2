"""Models: weights and tokenizers.

Input: where the weights come from (the Hub, a local folder, a GGUF file, a Python package with a fixed version, or
random numbers). Output: a `LoadedModel`, which holds a model of transformers that can be saved, its tokenizer, and
facts about it.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.model.base import Model
    from instruct_lab.model.facts import ModelFacts
    from instruct_lab.model.families import Decoder, Encoder, EncoderDecoder
    from instruct_lab.model.loaded import LoadedModel
    from instruct_lab.model.quantization import Quantization
    from instruct_lab.model.rope_scaling import RopeScaling
    from instruct_lab.model.tokenizer import Tokenizer
    from instruct_lab.model.trained_tokenizer import TrainedTokenizer
    from instruct_lab.model.weights import GGUF, Hub, LocalFolder, PackageFolder, Random, Weights

__all__ = [
    "GGUF",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Hub",
    "LoadedModel",
    "LocalFolder",
    "Model",
    "ModelFacts",
    "PackageFolder",
    "Quantization",
    "Random",
    "RopeScaling",
    "Tokenizer",
    "TrainedTokenizer",
    "Weights",
]

__getattr__ = names_on_demand(__name__)
