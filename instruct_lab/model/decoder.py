"""Decoder-only language models."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from instruct_lab.assets import Input
from instruct_lab.config import component
from instruct_lab.errors import InstructLabError
from instruct_lab.model.base import Model
from instruct_lab.model.tokenizer import Tokenizer
from instruct_lab.model.weights import Random, Weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@component
class Decoder(Model):
    """A causal language model: reads from left to right and predicts the next token."""

    family: ClassVar[str] = "decoder"

    weights: Weights  # where the weights and the tokenizer come from
    tokenizer: Tokenizer = Field(default_factory=Tokenizer)  # what is changed about the tokenizer
    attention: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] = "sdpa"  # which implementation
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of the weights in memory
    allow_pickle: bool = False  # load pickled weights too: they can run code while loading
    trust_remote_code: bool = False  # run the code of the model's repository

    def load_tokenizer(self, cache_path: Path) -> PreTrainedTokenizerBase:
        """The tokenizer, with its settings applied."""
        from transformers import AutoTokenizer

        if isinstance(self.weights, Random) and self.tokenizer.source is None:
            from instruct_lab.model._random import byte_tokenizer

            return self.tokenizer.prepare(byte_tokenizer())
        location, arguments = self.weights.location(cache_path)
        source = self.tokenizer.source or location
        if self.tokenizer.source is not None:
            arguments = {}
        with _told(source):
            loaded = AutoTokenizer.from_pretrained(source, trust_remote_code=self.trust_remote_code, **arguments)
        return self.tokenizer.prepare(loaded)

    def load(self, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> PreTrainedModel:
        """The model in evaluation mode, its embeddings grown where the tokenizer has more tokens."""
        import torch
        from transformers import AutoModelForCausalLM

        dtype = getattr(torch, self.dtype)
        if isinstance(self.weights, Random):
            from instruct_lab.model._random import random_model

            model = random_model(self.weights, tokenizer, dtype, self.attention)
        else:
            location, arguments = self.weights.location(cache_path)
            with _told(location):
                model = AutoModelForCausalLM.from_pretrained(
                    location,
                    dtype=dtype,
                    attn_implementation=self.attention,
                    use_safetensors=None if self.allow_pickle or "gguf_file" in arguments else True,
                    trust_remote_code=self.trust_remote_code,
                    **arguments,
                )
        _grow_embeddings(model, len(tokenizer))
        model.config.pad_token_id = tokenizer.pad_token_id
        return model.eval()

    def inputs(self, cache_path: Path) -> list[Input]:
        """The files that the weights come from."""
        return self.weights.inputs(cache_path)


def _grow_embeddings(model: Any, num_tokens: int) -> None:
    """Give new tokens rows at the mean of the old ones, in the output projection too."""
    import torch

    embeddings = [model.get_input_embeddings(), model.get_output_embeddings()]
    old = embeddings[0].weight.shape[0]
    if num_tokens <= old:
        return
    means = [layer.weight.detach().mean(dim=0) if layer is not None else None for layer in embeddings]
    model.resize_token_embeddings(num_tokens, mean_resizing=False)
    with torch.no_grad():
        for layer, mean in zip((model.get_input_embeddings(), model.get_output_embeddings()), means, strict=True):
            if layer is not None and mean is not None:
                layer.weight[old:] = mean


@contextlib.contextmanager
def _told(source: str) -> Iterator[None]:
    """What can go wrong while loading, as one paragraph; the library's progress bars kept quiet."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        text = " ".join(str(error).split())
        if "safetensors" in text and "allow_pickle" not in text and ("bin" in text or "does not appear" in text):
            do = "convert the weights to safetensors; or set model.allow_pickle=true if you trust whoever made them"
        elif "offline" in text.lower() or "connect" in text.lower() or "internet" in text.lower():
            do = "check the network and HF_HUB_OFFLINE; gated models need `hf auth login`; or use a local folder"
        elif "flash" in text.lower():
            do = "set model.attention=sdpa, or install the package that is named"
        else:
            do = "check the name, the revision and the folder's files"
        raise InstructLabError(f"The model cannot be loaded: {text[:500]}", where=source, do=do) from error
