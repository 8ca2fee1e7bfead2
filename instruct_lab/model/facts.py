"""Facts about a model, such as its width, that are known before its weights are read.

Neither torch nor transformers is loaded for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import InstructLabError
from instruct_lab.files import read_regular

WIDTHS = ("hidden_size", "d_model", "n_embd", "dim")
"""Fields of `config.json` that hold the width of the residual stream; the name depends on the architecture."""

TABLE_LENGTHS = ("max_position_embeddings", "n_positions")
"""Fields of `config.json` that hold the number of position embeddings; the name depends on the architecture."""

WITH_TABLE = frozenset({
    "albert", "bart", "bert", "bigbird_pegasus", "blenderbot", "blenderbot-small", "camembert", "deberta", "deberta-v2",
    "distilbert", "electra", "ernie", "gpt2", "gpt_bigcode", "gpt_neo", "marian", "mbart", "mpnet", "openai-gpt", "opt",
    "pegasus", "roberta", "xlm-roberta",
})  # fmt: skip
"""Architectures (model types of transformers) with a table of position embeddings, learned or fixed. The table limits
the length of a text."""

ROWS_FOR_PADDING = {"roberta": 2, "xlm-roberta": 2, "camembert": 2, "mpnet": 2}
"""Number of unused rows in the table of position embeddings, whose first position is the pad token's id plus 1."""

WITH_BIASES = WITH_TABLE | {
    "bloom", "codegen", "gpt_neox", "gptj", "led", "m2m_100", "persimmon", "phi", "qwen2", "qwen2_moe", "stablelm",
    "starcoder2",
}  # fmt: skip
"""Architectures that have bias parameters whatever their `config.json` says."""

BIAS_SETTINGS = (
    "attention_bias", "attention_in_bias", "attention_out_bias", "bias", "classifier_bias", "decoder_bias", "mlp_bias",
    "norm_bias", "qkv_bias", "use_bias",
)  # fmt: skip
"""Fields of `config.json` that add bias parameters if they are true."""

WITHOUT_BIASES = frozenset({
    "gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "mixtral", "mt5", "olmo2", "phi3",
    "qwen3", "qwen3_moe", "smollm3", "t5", "umt5",
})  # fmt: skip
"""Architectures that have bias parameters only if one of the fields in `BIAS_SETTINGS` is true."""

OTHER_SIZES = frozenset({"albert", "bigbird_pegasus", "qwen2_moe", "qwen3_moe"})
"""Architectures whose layers share weights, or whose feed-forward layers have other sizes than `INNER_WIDTHS` state."""
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "encoder_layers")
INNER_WIDTHS = ("intermediate_size", "d_ff", "ffn_dim", "n_inner", "encoder_ffn_dim")
EMBEDDING_WIDTHS = ("embedding_size", "word_embed_proj_dim")
"""Fields of `config.json` that hold the width of the embeddings, if it differs from the model's width.

`LAYERS` and `INNER_WIDTHS` list the fields for the number of layers and for the inner width of feed-forward layers.
"""

WITHOUT_PACKING = frozenset({
    "bamba", "big_bird", "bloom", "convbert", "deberta", "deberta-v2", "falcon_h1", "falcon_mamba", "fnet", "funnel",
    "jamba", "longformer", "mamba", "mamba2", "minimax", "mpnet", "mpt", "nemotron_h", "openai-gpt", "recurrent_gemma",
    "roformer", "rwkv", "squeezebert", "xglm", "xlnet", "zamba", "zamba2",
})  # fmt: skip
"""Architectures that cannot read several texts in one row: their layers are recurrent or convolutions, or they count
positions from the start of a row, or their attention cannot be limited to one text."""
TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
"""Names of tokenizer files; a folder with a tokenizer has at least one of these files."""


@component
class ModelFacts(Component):
    """Facts about a model that are known before it is loaded. Null means unknown.

    A table of position embeddings (BERT, BART, GPT-2) limits the length of a text; rotary and relative positions
    (Llama, T5) do not. For a model on the Hub, the config key `model.declared_facts` can state the facts. They are used
    until the model is downloaded.
    """

    hidden_size: Annotated[int, Field(ge=1)] | None = None  # width of the residual stream
    max_positions: Annotated[int, Field(ge=1)] | None = None  # longest text, in tokens; null: unknown or no limit
    has_biases: bool | None = None  # whether any parameter is a bias
    can_pack: bool | None = None  # whether several texts can share a row (batching=packed); null: tested once loaded


def facts_of_config(config: Mapping[str, Any]) -> ModelFacts:
    """Derive the facts about a model from its transformers configuration.

    Args:
        config: the content of a `config.json`. If a field is missing, the fact that it would state is unknown.
    """
    config = text_settings(config)
    architecture = str(config.get("model_type", ""))
    has_table = architecture in WITH_TABLE and config.get("position_biased_input", True)  # a setting of DeBERTa
    rows = first_count(config, TABLE_LENGTHS) if has_table else None
    has_biases = None
    if architecture in WITH_BIASES or any(config.get(name) is True for name in BIAS_SETTINGS):
        has_biases = True
    elif architecture in WITHOUT_BIASES:
        has_biases = False
    return ModelFacts(
        hidden_size=first_count(config, WIDTHS),
        max_positions=None if rows is None else max(1, rows - ROWS_FOR_PADDING.get(architecture, 0)),
        has_biases=has_biases,
        can_pack=False if architecture in WITHOUT_PACKING else None,
    )


def facts_of_folder(folder: Path) -> ModelFacts:
    """Derive the facts about a model from the `config.json` in its folder; all are unknown if it cannot be read."""
    return facts_of_config(read_config(folder))


def lacks_chat_template(folder: Path) -> bool:
    """Whether a model folder has a tokenizer that has no chat template."""
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return False
    has_tokenizer = any((folder / name).is_file() for name in TOKENIZER_FILES)
    return has_tokenizer and not read_config(folder, "tokenizer_config.json").get("chat_template")


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """Read a JSON object from a file in a model folder; return an empty dictionary if that is not possible."""
    try:
        config = json.loads(read_regular(folder / name))
    except (InstructLabError, OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def text_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's configuration, in which the fields of `text_config` replace outer ones of the same name.

    Multimodal models have a `text_config`, which describes their language model.
    """
    inner = config.get("text_config")
    return {**config, **(inner if isinstance(inner, Mapping) else {})}


def first_count(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """Return the first positive whole number that a configuration has under these names, in their order, or `None`."""
    found = [config[name] for name in names if type(config.get(name)) is int and config[name] > 0]  # no booleans
    return found[0] if found else None


def least_parameters(config: Mapping[str, Any]) -> int:
    """Return a lower bound of the number of parameters of a model, computed only from its configuration.

    Only embeddings and the two large matrices of each feed-forward layer are counted, and only if the configuration
    states their sizes. The bound is 0 for an architecture whose layers are not known to have these matrices.

    Args:
        config: the content of a `config.json`.
    """
    config = text_settings(config)
    if str(config.get("model_type")) not in (WITH_BIASES | WITHOUT_BIASES) - OTHER_SIZES:
        return 0
    width, layers, inner = (first_count(config, names) or 0 for names in (WIDTHS, LAYERS, INNER_WIDTHS))
    embedded = min(first_count(config, (name,)) or width for name in EMBEDDING_WIDTHS)
    return (first_count(config, ("vocab_size",)) or 0) * embedded + 2 * layers * width * inner
