"""Build a run's model without memory for its weights, and apply the tuning method to it."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any, Literal

from instruct_lab.errors import InstructLabError, one_line
from instruct_lab.experiment import Experiment
from instruct_lab.model import LoadedModel, Model
from instruct_lab.model.byte_tokenizer import byte_tokenizer
from instruct_lab.model.checkpointing import checkpoint_gradients
from instruct_lab.model.embeddings import fit_embeddings
from instruct_lab.model.score import score_modules
from instruct_lab.model.transformers_library import import_transformers
from instruct_lab.model.weights.folder_model import adjust_config
from instruct_lab.model.weights.library_calls import own_seed
from instruct_lab.planning.architecture import architecture
from instruct_lab.planning.meter import remove_values
from instruct_lab.planning.quantized import QuantizedLinear, quantize
from instruct_lab.tuning.noise import add_embedding_noise
from instruct_lab.tuning.parameters import count_parameters

PLAIN_ATTENTION = {"flash_attention_2": "sdpa", "flex_attention": "sdpa"}
"""Attention implementations that need a GPU, and the one that replaces each in an estimate, with the same memory."""


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """A run's models, whose parameters have shapes but no values.

    Args:
        loaded: the model with its tuning method applied.
        teacher: the second model that some objectives need; `None` for other objectives.
    """

    loaded: LoadedModel
    teacher: Any = None

    @property
    def vocabulary(self) -> int | None:
        """The size of the vocabulary; `None` if the model's head computes a score instead of logits over tokens."""
        output = self.loaded.model.get_output_embeddings()
        return None if output is None else int(output.weight.shape[0])

    def count_parameters(self) -> tuple[int, int]:
        """Return the number of all parameters and of the trained ones, as if no weight were quantised."""
        counts = count_parameters(self.loaded.model)
        packed = [module for module in self.loaded.model.modules() if isinstance(module, QuantizedLinear)]
        hidden = sum(module.in_features * module.out_features - module.weight.numel() for module in packed)
        return counts.total + hidden, counts.trained


def build_skeleton(experiment: Experiment, cache_path: Path, tokenizer: Any | None) -> Skeleton:
    """Build the models of a run.

    Args:
        experiment: the run's configuration.
        cache_path: folder for downloads and converted files.
        tokenizer: the run's tokenizer; `None` if it is not on this machine.

    Raises:
        InstructLabError: the model's architecture is not known on this machine and cannot be downloaded, transformers
            cannot build it, or the tuning method needs the values of the weights.
    """
    base = _build(experiment.model, cache_path, tokenizer, experiment.objective.head)
    teacher = None
    other = getattr(experiment.objective, "teacher", None)
    if isinstance(other, Model):
        teacher = _build(other, cache_path, tokenizer, "language").model.requires_grad_(False)
        remove_values(teacher)
    try:
        loaded = experiment.tuning.apply(base)
    except InstructLabError:
        raise
    except Exception as error:
        raise InstructLabError(
            f"The tuning method computes with the values of the weights, so it cannot be planned ({one_line(error)})",
            where=f"tuning: {type(experiment.tuning).__name__}",
            do="plan a method of the same size, such as tuning=lora with the same tuning.r",
        ) from error
    if experiment.tuning.neftune_alpha is not None:
        add_embedding_noise(loaded.model, experiment.tuning.neftune_alpha)
    remove_values(loaded.model)
    return Skeleton(loaded, teacher)


def _build(model: Model, cache_path: Path, tokenizer: Any | None, head: Literal["language", "score"]) -> LoadedModel:
    import torch
    import transformers

    import_transformers()
    loading = model.loading(head)
    loading = dataclasses.replace(loading, attention=PLAIN_ATTENTION.get(loading.attention, loading.attention))
    fields = dict(architecture(model, cache_path, tokenizer))
    kind, where = str(fields.pop("model_type", "")), f"model {model.weights.label}"
    if kind not in transformers.CONFIG_MAPPING:
        raise InstructLabError(
            f"transformers has no architecture {kind!r}, so the model cannot be planned",
            where=where,
            do="choose a model of transformers",
        )
    fields.pop("quantization_config", None)  # of converted weights
    config = transformers.CONFIG_MAPPING[kind](**fields)
    adjust_config(config, loading, model.weights.label)
    auto, dtype = getattr(transformers, loading.auto_class), getattr(torch, loading.dtype)
    try:
        with torch.device("meta"), own_seed(0):
            built = auto.from_config(copy.deepcopy(config), dtype=dtype, attn_implementation=loading.attention)
    except (ValueError, TypeError, RuntimeError, ImportError, ZeroDivisionError) as error:
        what = f"No model can be built from this architecture: {one_line(error)}"
        raise InstructLabError(what, where=where, do="correct its config.json or its settings") from error
    if fields.get("tie_word_embeddings") is False:
        untie_output(built)
    added: tuple[int, ...] = ()
    if tokenizer is not None:
        added = fit_embeddings(built, tokenizer)
        built.config.pad_token_id = tokenizer.pad_token_id
    new = score_modules(built) if loading.gives_score else ()
    if loading.gives_score and built.config.pad_token_id is None:
        built.config.pad_token_id = 0
    if loading.quantization is not None:
        quantize(built, loading.quantization, new)
    checkpoint_gradients(built, model.gradient_checkpointing)
    return LoadedModel(
        model=built.eval(),
        tokenizer=byte_tokenizer(model.family) if tokenizer is None else tokenizer,
        family=model.family,
        added_token_ids=added,
        new_modules=new,
    )


def untie_output(model: Any) -> None:
    """Give the output layer a separate weight if it shares its weight with the input embeddings.

    This is needed for checkpoints of T5 with two separate weights: a model that transformers builds from their config
    ties the weights, although the config says that they are not tied.
    """
    import torch

    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    if outputs is not None and outputs.weight is inputs.weight:
        outputs.weight = torch.nn.Parameter(torch.empty_like(outputs.weight))
