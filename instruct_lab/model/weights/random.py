"""The component that builds models of any architecture with random weights."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.assets import Input
from instruct_lab.config import component
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import InstructLabError, one_line, wrap_errors
from instruct_lab.memory import check_memory
from instruct_lab.model.byte_tokenizer import byte_tokenizer
from instruct_lab.model.facts import ModelFacts, facts_of_config, least_parameters
from instruct_lab.model.score import score_modules
from instruct_lab.model.weights.base import Loading, Weights
from instruct_lab.model.weights.folder_model import adjust_config, folder_model
from instruct_lab.model.weights.library_calls import own_seed, without_progress_bars

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from instruct_lab.model.weights.base import ModelAndNewModules


@component
class Random(Weights):
    """Random weights of any architecture, with a byte-level tokenizer for the family. Nothing is downloaded.

    Use them for training from scratch, tests and dry runs. The same seed gives the same weights on every machine, and
    drawing them does not change the run's random states.
    """

    is_random: ClassVar[bool] = True
    null_values: ClassVar[tuple[str, ...]] = ("settings",)

    architecture: Annotated[str, Field(min_length=1)] = "llama"  # the architecture's model type in transformers
    settings: dict[str, bool | int | float | str | list[Any] | None] = Field(
        default_factory=dict
    )  # fields of the architecture's configuration; vocab_size defaults to the tokenizer's
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0  # random seed of the weights

    @property
    def label(self) -> str:
        """A short name of the weights, for messages."""
        return f"a random {self.architecture} model"

    def load_tokenizer(self, cache_path: Path, trust_remote_code: bool, family: str) -> PreTrainedTokenizerBase:
        """Build a tokenizer of the 256 bytes and the family's special tokens."""
        tokenizer: PreTrainedTokenizerBase = byte_tokenizer(family)
        return tokenizer

    def load_model(self, loading: Loading, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> ModelAndNewModules:
        """Build a model of the given architecture, whose random weights are drawn with `seed`.

        Raises:
            InstructLabError: transformers does not know the architecture or a field of `settings`, or refuses a value;
                the settings do not fit one another; or the model does not fit into the memory.
        """
        import torch
        import transformers

        config = self._config(tokenizer)
        adjust_config(config, loading, self.architecture)
        auto = getattr(transformers, loading.auto_class)
        check_memory(config, auto, 4, "model.weights.settings")  # drawn in float32
        try:
            with own_seed(self.seed):
                model = auto.from_config(config, dtype=torch.float32, attn_implementation=loading.attention)
        except (ValueError, TypeError, RuntimeError, ImportError, ZeroDivisionError) as error:
            do = f"make them fit one another and {loading.auto_class}; given: {json.dumps(self.settings)}"
            raise InstructLabError(
                f"No model can be built from these settings: {one_line(error)}",
                where="model.weights.settings",
                do="set model.attention=eager" if "attn_implementation" in str(error) else do,
            ) from error
        if loading.quantization is not None:  # transformers quantises only what it reads from a folder
            with tempfile.TemporaryDirectory() as folder:
                with without_progress_bars():
                    model.save_pretrained(folder)
                model, _ = folder_model(Path(folder), f"random {self.architecture}", loading)
                model.config._name_or_path = model.name_or_path = ""
        else:
            model = model.to(getattr(torch, loading.dtype))
        return model, score_modules(model) if loading.gives_score else ()

    def inputs(self, cache_path: Path, allow_pickle: bool) -> list[Input]:
        """Return a single input with the SHA-256 of architecture, settings and seed, because no file is read.

        The architecture, settings and seed determine the weights.
        """
        text = json.dumps([self.architecture, self.settings, self.seed], sort_keys=True)
        return [Input(f"random {self.architecture}", hashlib.sha256(text.encode()).hexdigest(), len(text))]

    def least_parameters(self) -> int:
        """Compute a lower bound of the number of parameters from the settings."""
        return least_parameters({"model_type": self.architecture, **self.settings})

    def facts(self, cache_path: Path) -> ModelFacts:
        """Derive facts about the model, such as its width, from `settings`; what `settings` leaves open is unknown."""
        return facts_of_config({"model_type": self.architecture, **self.settings})

    def read_architecture(self, cache_path: Path, family: str, tokenizer: Any = None) -> Mapping[str, Any]:
        """Return the model's whole configuration: `settings`, and transformers' defaults for all other fields.

        By default, `vocab_size` and the ids of special tokens are those of the tokenizer.
        """
        config: dict[str, Any] = self._config(byte_tokenizer(family) if tokenizer is None else tokenizer).to_dict()
        return config

    def _config(self, tokenizer: Any) -> Any:
        from transformers import CONFIG_MAPPING, AutoConfig

        if self.architecture not in CONFIG_MAPPING:
            close = nearest(self.architecture, CONFIG_MAPPING)
            raise InstructLabError(
                f"transformers has no architecture {self.architecture!r}",
                where="model.weights.architecture",
                do=f"did you mean {close}?" if close else "name one, such as llama, qwen3 or gemma3_text",
            )
        known = AutoConfig.for_model(self.architecture).to_dict()
        for name in self.settings:
            if name not in known:  # transformers would ignore it
                close = nearest(name, known)
                raise InstructLabError(
                    f"The configuration of {self.architecture} has no field {name}",
                    where="model.weights.settings",
                    do=f"did you mean {close}?"
                    if close
                    else f"name a field of the configuration of {self.architecture}",
                )
        tokens = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        added = set(getattr(tokenizer, "added_token_ids", ()))  # `fit_embeddings` adds their rows
        size = {"vocab_size": max(number for number in tokenizer.get_vocab().values() if number not in added) + 1}
        start = {}
        if "decoder_start_token_id" in known or known.get("is_encoder_decoder"):
            start = {"decoder_start_token_id": tokenizer.pad_token_id, "forced_eos_token_id": None}
        pads = {"pad_token_id": tokenizer.pad_token_id if start else None}
        with wrap_errors(
            what=f"The configuration of {self.architecture} refuses these settings",
            where="model.weights.settings",
            do="correct the value that is named",
        ):
            return AutoConfig.for_model(self.architecture, **{**size, **tokens, **start, **pads, **self.settings})
