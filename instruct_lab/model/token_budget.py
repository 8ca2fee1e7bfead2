"""Numbers of tokens that fit into a batch of an evaluation, estimated from the memory of the machine.

The estimates depend on the whole memory of a device and not on the memory that is free, so that they are the same in
every run on a machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from instruct_lab.memory import total_memory
from instruct_lab.model.facts import LAYERS, WIDTHS, first_count

if TYPE_CHECKING:
    import torch

MEMORY_SHARE = 8
"""Divisor of a device's memory: a batch may use one eighth of it."""
SCORED_BYTES = 1 << 20
"""Assumed memory of a token in a forward pass, in bytes: float32 logits and log-probabilities over 128,000 tokens."""
LEAST_TOKENS = 256
MOST_TOKENS = {"cpu": 2048}
"""Maximum number of tokens in a batch, by type of device; a larger batch would not take less time per token."""
MOST_TOKENS_ELSEWHERE = 8192
UNKNOWN_WIDTH, UNKNOWN_LAYERS = 4096, 32
"""Width and number of layers that are assumed for a model whose configuration does not state them."""
WORKING_WIDTHS = 8
"""Assumed number of values that a layer holds for each token while it computes, divided by the model's width."""


def scored_tokens(device: torch.device) -> int:
    """Return how many tokens a batch may have in a forward pass without gradients: a power of two."""
    return tokens_in_memory(device.type, device_memory(device))


def tokens_in_memory(kind: str, memory: int | None) -> int:
    """Return how many tokens a batch may have in a forward pass without gradients: a power of two.

    Args:
        kind: type of the device, such as `cpu` or `cuda`.
        memory: whole memory of the device in bytes; `None`: unknown.
    """
    most = MOST_TOKENS.get(kind, MOST_TOKENS_ELSEWHERE)
    if memory is None:
        return most
    return max(LEAST_TOKENS, min(most, _power_of_two(memory // MEMORY_SHARE // SCORED_BYTES)))


def decoded_tokens(model: Any) -> int | None:
    """Return how many tokens a batch may have in decoding, prompts and answers together: a power of two.

    Args:
        model: a model of transformers; its cache holds the keys and values of every token in memory.

    Returns:
        The maximum number of tokens; `None` if the memory of the device is not known.
    """
    parameter = next(model.parameters())
    memory = device_memory(parameter.device)
    if memory is None:
        return None
    sizes = model.config.get_text_config(decoder=True).to_dict()
    width = first_count(sizes, WIDTHS) or UNKNOWN_WIDTH
    heads = first_count(sizes, ("num_attention_heads", "n_head", "num_heads")) or 1
    stored = (first_count(sizes, ("num_key_value_heads",)) or heads) * (
        first_count(sizes, ("head_dim", "d_kv")) or width // heads
    )
    layers = first_count(sizes, LAYERS) or UNKNOWN_LAYERS
    num_bytes = (2 * layers * stored + WORKING_WIDTHS * width) * parameter.element_size()
    return max(LEAST_TOKENS, _power_of_two(memory // MEMORY_SHARE // num_bytes))


def device_memory(device: torch.device) -> int | None:
    """Return the whole memory of a device in bytes; `None` if it is not known."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    return total_memory()


def _power_of_two(number: int) -> int:
    """Return the largest power of two that is not above a number, or 0."""
    return 1 << number.bit_length() - 1 if number > 0 else 0
