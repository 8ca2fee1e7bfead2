"""The metadata of a GGUF file that describe a model's architecture, and the tensors under their names in the file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    import numpy
    import torch

ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
"""Names that the package `gguf` gives to the architectures that can be written, keyed by transformers' `model_type`."""
INTERLEAVED = ("llama", "mistral")
"""Model types for which GGUF files store the dimensions of queries and keys in another order than transformers.

Rotary embeddings rotate pairs of dimensions. The two dimensions of a pair are adjacent in a GGUF file, but half a head
apart in transformers.
"""
ELSEWHERE = "export with --format hf, and convert the folder with llama.cpp's convert_hf_to_gguf.py"


def refusal(what: str, where: str = "the model's config.json") -> InstructLabError:
    """Return the error for a model that cannot be written as a GGUF file.

    Args:
        what: the reason, as a clause about the model, such as "its activation is gelu".
        where: the file or component that contains what is not supported.
    """
    return InstructLabError(f"This model cannot be written as a GGUF file: {what}", where=where, do=ELSEWHERE)


def check_config(config: Any) -> None:
    """Raise an error if a model's GGUF file would not give the same outputs as the model.

    Args:
        config: the model's configuration, from transformers.

    Raises:
        InstructLabError: the GGUF format, or this export, does not support the architecture, its activation function,
            its scaling of positions or its attention.
    """
    kind = config.model_type
    if kind not in ARCHITECTURES:
        raise refusal(f"its architecture is {kind}, and only {', '.join(ARCHITECTURES)} can be written")
    if config.hidden_act != "silu":
        raise refusal(f"its activation is {config.hidden_act}, and llama.cpp computes silu")
    if (scaling := rope_of(config)["rope_type"]) not in ("default", "linear", "llama3"):
        raise refusal(f"its positions are scaled by {scaling}; default, linear and llama3 can be written")
    window = getattr(config, "sliding_window", None)
    uses_window = getattr(config, "use_sliding_window", True)
    if window is not None and uses_window and window < config.max_position_embeddings:
        raise refusal(f"its attention is limited to a window of {window} tokens, which llama.cpp does not apply")


def rope_of(config: Any) -> dict[str, Any]:
    """Return the settings of a model's rotary embeddings; `rope_type` and `rope_theta` are always among them."""
    found = dict(getattr(config, "rope_parameters", None) or {})
    return {"rope_type": "default", "rope_theta": 10000.0, **found}


def add_architecture(writer: Any, config: Any) -> None:
    """Add the metadata that describe a model's architecture to a GGUF file.

    Args:
        writer: the `GGUFWriter` of the file.
        config: the model's configuration, which `check_config` has accepted.
    """
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    size = head_size(config)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    rope = rope_of(config)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        import gguf

        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def head_size(config: Any) -> int:
    """Return the number of dimensions of an attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def named_tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each tensor that a GGUF file of a model needs, after its name in the file.

    The values are still those of the model; `file_values` converts them for the file.

    Args:
        model: a causal language model, whose configuration `check_config` has accepted.

    Raises:
        InstructLabError: the file format has no name for a tensor, or a tensor is quantised.
    """
    import gguf

    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[ARCHITECTURES[config.model_type]], config.num_hidden_layers)
    if rope_of(config)["rope_type"] == "llama3":
        yield "rope_freqs.weight", _llama3_factors(rope_of(config), head_size(config))
    head = model.get_output_embeddings().weight
    is_tied = head is model.get_input_embeddings().weight
    for name, tensor in model.state_dict(keep_vars=True).items():
        if is_tied and tensor is head and name.startswith("lm_head"):
            continue
        if not tensor.is_floating_point():
            raise refusal(f"its tensor {name} is quantised", "the model's weights")
        renamed = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if renamed is None:
            raise refusal(f"the file format has no name for its tensor {name}", "the model's weights")
        yield renamed, tensor.detach()


def file_values(config: Any, name: str, tensor: torch.Tensor) -> numpy.ndarray:
    """Return the values of a tensor in float32 as a GGUF file stores them.

    For some architectures, llama.cpp expects the dimensions of queries and keys in another order than transformers.

    Args:
        config: the model's configuration.
        name: the name of the tensor in the file.
        tensor: the model's tensor.
    """
    import torch

    value = tensor.to("cpu", torch.float32)
    if config.model_type in INTERLEAVED and ".attn_q." in name:
        value = _interleave(value, config.num_attention_heads)
    elif config.model_type in INTERLEAVED and ".attn_k." in name:
        value = _interleave(value, config.num_key_value_heads)
    return value.contiguous().numpy()


def _interleave(value: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Bring the dimensions of each attention head from the order of transformers into the order of a GGUF file.

    Rotary embeddings rotate pairs of dimensions. In transformers, dimension i is paired with i + n, where n is half the
    size of a head; in a GGUF file, pairs are adjacent. The new order is therefore 0, n, 1, n + 1, 2, ...

    Args:
        value: weight `[heads * size, in]` or bias `[heads * size]`.
        num_heads: number of heads.
    """
    split = value.reshape(num_heads, 2, value.shape[0] // num_heads // 2, *value.shape[1:])
    return split.swapaxes(1, 2).reshape(value.shape)


def _llama3_factors(rope: dict[str, Any], size: int) -> torch.Tensor:
    """Compute the factors by which the rotary frequencies of Llama 3.1 and later are divided, one for each frequency.

    The formula is taken from llama.cpp's converter.

    Args:
        rope: the settings of the model's rotary embeddings.
        size: number of dimensions of a head.
    """
    import torch

    frequencies = 1.0 / (rope["rope_theta"] ** (torch.arange(0, size, 2, dtype=torch.float32) / size))
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    original = rope["original_max_position_embeddings"]
    factors = []
    for frequency in frequencies.tolist():
        wavelength = 2 * math.pi / frequency
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return torch.tensor(factors, dtype=torch.float32)
