"""Forward passes of causal decoders in which a prefix that several rows share is computed once.

A `PrefixTree` divides the rows of a batch into segments: a shared prefix, then the different texts that continue it,
which may share prefixes again. All segments at the same depth of the tree form a level, and levels are computed one
after the other. A segment attends to the keys and values of the segments that it continues. Gradients flow back through
these keys and values, so logits and gradients equal those of a padded batch without sharing, up to rounding.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from instruct_lab.model.compiling import is_compiled
from instruct_lab.model.family import family_of, without_adapters
from instruct_lab.model.packed_attention import NAME as PACKED_ATTENTION
from instruct_lab.model.shares import is_sharded
from instruct_lab.objective.projection import selected_logits
from instruct_lab.tuning.cache_names import cache_name

if TYPE_CHECKING:
    from instruct_lab.batching import Batch
    from instruct_lab.batching.prefixes import PrefixTree

ATTENTION = ("eager", "sdpa", PACKED_ATTENTION)
"""Attention implementations for which shared prefixes are tested; on padded rows, the last one computes as `sdpa`."""
RANDOM_SETTINGS = ("drop", "jitter")
"""Parts of the names of those module attributes, such as `attention_dropout`, that make training random if above 0."""
LENGTH_DEPENDENT = ("dynamic", "longrope")
"""Types of rotary embeddings whose frequencies depend on the length of the text."""
SECONDS_PER_LAYER = 5e-4
"""Estimated seconds that an accelerator needs to start the kernels of one layer, forward and backward."""
OPERATIONS_PER_SECOND = 3e14
"""Estimated floating-point operations per second of an accelerator."""


def logits_by_level(
    model: Any, tree: PrefixTree, is_target: Tensor, reduce: Callable[[Tensor], Tensor] = lambda hidden: hidden
) -> Tensor:
    """Compute the logits `[targets, vocab]` at the target positions of a batch, one level of its prefix tree at a time.

    The tree divides the rows into segments: shared prefixes, and the texts that continue them. A level consists of all
    segments at the same depth. The logits are in the order of the batch's rows.

    Args:
        model: a model that can compute shared prefixes once: `obstacle` returns `None` for it.
        tree: the rows of the batch, divided into shared and unshared segments.
        is_target: bool `[rows, seq]`, whether each position of the batch predicts a target token.
        reduce: function that selects, from the hidden states `[targets, hidden]`, those whose logits are computed; by
            default, it returns all of them.
    """
    from transformers import DynamicCache

    base = without_adapters(model)
    cache = DynamicCache(config=base.config)
    tree.is_used = True
    states: list[Tensor] = []  # by level: [segments * width, hidden]
    chosen = tree.index[is_target]  # [targets]
    mask: Tensor | None = None

    def keep(hidden: Tensor) -> Tensor:
        states.append(hidden.flatten(0, 1))
        return reduce(_take_rows(torch.cat(states), chosen)) if len(states) == len(tree.levels) else states[0][:1]

    for level in tree.levels:
        if mask is None:
            mask = level.attention_mask
        else:
            mask = torch.cat([mask[level.parents], level.attention_mask], dim=1)  # [segments, past + width]
            for layer in cache.layers:
                layer.keys, layer.values = (_take_rows(one, level.parents) for one in (layer.keys, layer.values))
        inputs = {
            "input_ids": level.input_ids,
            "attention_mask": mask,
            "position_ids": level.position_ids,
            "use_cache": True,
            str(cache_name(base)): cache,
        }
        logits = selected_logits(model, inputs, keep)
    return logits


def _take_rows(tensor: Tensor, indices: Tensor) -> Tensor:
    """Return the rows of a tensor at the indices, which may repeat: `[indices, ...]`.

    If a row is taken several times, its gradients are added in a fixed order, so that results can be repeated exactly.
    The order would be random with `tensor[indices]` on a CPU, and with `index_select` on a GPU.
    """
    return nn.functional.embedding(indices, tensor.flatten(1)).unflatten(1, tensor.shape[1:])


def usable_tree(model: Any, batch: Batch) -> PrefixTree | None:
    """Return the batch's prefix tree if it has one, the model can use it, and this saves time; otherwise `None`."""
    tree = batch.prefixes
    return tree if tree is not None and pays(model, tree) and obstacle(model, tree.width) is None else None


def pays(model: Any, tree: PrefixTree) -> bool:
    """Whether it saves time to compute shared prefixes once, one level of the tree after the other.

    On a CPU, it always does, since `share_prefixes` builds a tree only if it saves computation. On an accelerator, each
    additional level costs the time to start its kernels, so the saved computation has to take longer than that.
    """
    parameters = list(without_adapters(model).parameters())
    if parameters[0].device.type == "cpu":
        return True
    saved = 6 * sum(parameter.numel() for parameter in parameters) * tree.num_saved / OPERATIONS_PER_SECOND
    return saved > SECONDS_PER_LAYER * without_adapters(model).config.num_hidden_layers * (len(tree.levels) - 1)


def obstacle(model: Any, width: int = 0) -> str | None:
    """Return the reason why a model in its current mode cannot compute shared prefixes once; `None` if it can.

    The reason is worded to follow "because".

    Args:
        model: a language model of transformers, with or without adapters.
        width: `PrefixTree.width` of the batch's prefix tree: the length in tokens of a path through the tree, including
            padding. With 0, only reasons that hold for every batch are returned.
    """
    return next(_obstacles(model, without_adapters(model), width), None)


def _obstacles(model: Any, base: Any, width: int) -> Iterator[str]:
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    if family_of(base) != "decoder":
        yield "the model is not a causal decoder"
        return
    if is_sharded(model):
        yield "the ranks would compute different numbers of levels of a sharded model"
    if base.get_output_embeddings() is None:
        yield "the model is not a language model"
    if any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values()):
        yield "the tuning method puts virtual tokens before each text"
    if not type(base).__module__.startswith("transformers."):
        yield "the model's code is not part of transformers"
    if cache_name(base) is None or "position_ids" not in inspect.signature(base.forward).parameters:
        yield "the model does not take earlier keys and values together with positions"
        return
    layers = DynamicCache(config=base.config).layers
    others = {type(layer).__name__ for layer in layers} - {DynamicLayer.__name__, DynamicSlidingWindowLayer.__name__}
    if hasattr(base.config, "attention_types"):  # GPT-Neo
        yield "some of its layers attend only to near tokens"
    if others:
        yield f"some of its layers do not attend to keys of all earlier tokens (they use a {', '.join(sorted(others))})"
    windows = [layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)]
    if windows and width >= min(windows):
        yield f"the longest texts do not fit into its sliding window of {min(windows):,} tokens"
    if base.config._attn_implementation not in ATTENTION:
        yield f"it is not tested with model.attention={base.config._attn_implementation}"
    if not _rope_types(base.config.get_text_config(decoder=True).to_dict()).isdisjoint(LENGTH_DEPENDENT):
        yield "the frequencies of its rotary embeddings depend on the length of the text"
    if model.training:
        yield from _obstacles_in_training(model, base)


def _obstacles_in_training(model: Any, base: Any) -> Iterator[str]:
    if any(getattr(module, "gradient_checkpointing", False) for module in base.modules()):
        yield "gradient checkpointing keeps no keys and values (model.gradient_checkpointing)"
    if is_compiled(base):
        yield "compiled layers would be compiled again for each of their keys and values (model.compile)"
    random = next(filter(None, map(_random_setting, model.modules())), None)
    if random is not None:
        yield f"dropout differs from row to row ({random})"
    if base.get_input_embeddings()._forward_hooks:
        yield "the noise on the embeddings differs from row to row"


def _random_setting(module: nn.Module) -> str | None:
    """Return the name of the setting that makes a module's forward pass random in training; `None` if there is none."""
    kind = type(module).__name__
    if "Dropout" in kind and getattr(module, "p", 0) > 0:
        return f"{kind} with p={module.p}"
    settings = vars(module)
    for name in _random_names(tuple(settings)):
        value = settings[name]
        values = value.values() if isinstance(value, dict) else [value]  # PEFT has a value for each adapter
        if any(isinstance(one, float) and one > 0 for one in values):
            return f"{name} of a {kind}"
    return None


@functools.lru_cache(maxsize=1024)
def _random_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the attribute names that contain "drop" or "jitter", which mark settings that make training random.

    The results are cached, because all modules of one class have attributes of the same names.
    """
    return tuple(name for name in names if any(part in name for part in RANDOM_SETTINGS))


def _rope_types(settings: Any) -> set[str]:
    """Return all values of the key `rope_type` in nested dictionaries."""
    if not isinstance(settings, Mapping):
        return set()
    found = {str(settings["rope_type"])} if "rope_type" in settings else set()
    return found.union(*(_rope_types(value) for value in settings.values()))
