"""Methods that train some of the model's own parameters and freeze the rest."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.config import LimitedExpression, Regex, component
from instruct_lab.errors import InstructLabError, Refusal, wrap_errors
from instruct_lab.model.checkpointing import set_input_gradients
from instruct_lab.tuning.base import Tuning

if TYPE_CHECKING:
    from instruct_lab.model import LoadedModel

LAYER = re.compile(r"^(.*?\b(?:layers|layer|h|block|blocks)\.)(\d+)\.")
"""Matches the name of a stack of layers and a layer's number in parameter names of Llama, GPT-2, T5, BART and BERT."""
FILE = "trained.safetensors"


@component
class Partial(Tuning, ABC):
    """Base class of methods that train only selected parameters of the model and save only these in checkpoints."""

    learning_rate: ClassVar[float | None] = 1e-4  # measured: experiments=tuning_methods, for the last two layers
    trains_new_tokens: ClassVar[bool] = True

    @abstractmethod
    def select_parameters(self, loaded: LoadedModel) -> Collection[str]:
        """Return the names of the parameters to train, as in the model's `named_parameters`."""

    def apply(self, loaded: LoadedModel) -> LoadedModel:
        """Freeze all parameters except the selected ones and those of modules without pretrained weights.

        If the tokenizer has new tokens, the input and output embeddings are trained too.

        Raises:
            InstructLabError: no parameter is selected.
        """
        self._freeze_others(loaded)
        model = loaded.model
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise InstructLabError(
                "The method selects none of the model's parameters",
                where="tuning",
                do=f"choose others; they are named like {next(iter(dict(model.named_parameters())))}",
            )
        return loaded

    def _freeze_others(self, loaded: LoadedModel) -> None:
        model, names = loaded.model, set(self.select_parameters(loaded))
        new = tuple(f".{module}." for module in loaded.new_modules)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names or any(module in f".{name}" for module in new))
        if loaded.added_token_ids:
            model.get_input_embeddings().weight.requires_grad_(True)
            if model.get_output_embeddings() is not None:
                model.get_output_embeddings().weight.requires_grad_(True)
        set_input_gradients(model)

    def save(self, loaded: LoadedModel, path: Path) -> None:
        """Write the trained parameters to a safetensors file."""
        from safetensors.torch import save_file

        path.mkdir(parents=True, exist_ok=True)
        trained = {n: p.detach().cpu().contiguous() for n, p in loaded.model.named_parameters() if p.requires_grad}
        save_file(trained, path / FILE)

    def load(self, loaded: LoadedModel, path: Path) -> LoadedModel:
        """Read the parameters that `save` wrote, and copy them into the model.

        Raises:
            InstructLabError: the folder holds no parameters, damaged parameters, or parameters of another model.
        """
        import torch
        from safetensors.torch import load_file

        if not (path / FILE).is_file():
            raise InstructLabError("The folder holds no trained weights", where=str(path), do="finish the run first")
        do = "take another checkpoint of the run"
        with wrap_errors(what="The trained weights cannot be read", where=str(path), do=do):
            trained = load_file(path / FILE)
        loaded = self.apply(loaded)
        own = {name: parameter for name, parameter in loaded.model.named_parameters() if parameter.requires_grad}
        different = sorted(own.keys() ^ trained.keys())
        different += sorted(n for n in own.keys() & trained.keys() if own[n].shape != trained[n].shape)
        if different:
            raise InstructLabError(
                f"The trained weights do not fit this model: {len(different)} tensors differ, such as {different[0]}",
                where=str(path),
                do="use the model that the run was made with",
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(trained[name])
        return loaded

    def merge(self, loaded: LoadedModel) -> LoadedModel:
        """Return the model unchanged, since the method adds no modules."""
        return loaded


@component
class Freeze(Partial):
    """Training of selected parameters: first or last layers, parameters whose names match `pattern`, embeddings.

    The first and last layers are counted separately in an encoder and a decoder.
    """

    first_layers: Annotated[int, Field(ge=0)] = (
        0  # number of trained layers at the input of each stack (encoder, decoder)
    )
    last_layers: Annotated[int, Field(ge=0)] = 0  # number of trained layers at the output of each stack
    pattern: Annotated[Regex, Field(min_length=1)] | None = None  # regular expression: train parameters that match
    embeddings: bool = False  # train the input embeddings, and the output embeddings if both are one tensor

    def __post_init__(self) -> None:
        if not (self.first_layers or self.last_layers or self.pattern or self.embeddings):
            raise Refusal("last_layers", "no parameter would be trained", "2")

    def select_parameters(self, loaded: LoadedModel) -> Collection[str]:
        """Return the names of the parameters to train.

        Raises:
            InstructLabError: no parameter's name matches `pattern`, or the model has fewer layers than `first_layers`
                or `last_layers`.
        """
        model = loaded.model
        names = [name for name, _ in model.named_parameters()]
        depths: dict[str, int] = {}
        for name in names:
            if match := LAYER.match(name):
                depths[match[1]] = max(depths.get(match[1], 0), int(match[2]) + 1)
        most = max(self.first_layers, self.last_layers)
        if most > min(depths.values(), default=0):
            field = "first_layers" if self.first_layers >= self.last_layers else "last_layers"
            raise InstructLabError(
                f"The model has {min(depths.values(), default=0)} layers, and {most} are to be trained",
                where=f"tuning.{field}",
                do="set a lower number",
            )
        found = {name for name in names if (match := LAYER.match(name)) and self._is_selected(match, depths)}
        if self.pattern is not None:
            expression = LimitedExpression(self.pattern, where="tuning.pattern")
            matching = {name for name in names if expression.search(name)}
            if not matching:
                raise InstructLabError(
                    f"No parameter's name matches {self.pattern!r}",
                    where="tuning.pattern",
                    do=f"they are named like {names[len(names) // 2]}",
                )
            found |= matching
        if self.embeddings:
            weight = model.get_input_embeddings().weight
            found |= {name for name, parameter in model.named_parameters() if parameter is weight}
        return found

    def _is_selected(self, match: re.Match[str], depths: dict[str, int]) -> bool:
        number = int(match[2])
        return number < self.first_layers or number >= depths[match[1]] - self.last_layers


@component
class BitFit(Partial):
    """Training of only the biases (Ben Zaken et al., 2022). Models without biases (Llama, T5) are refused."""

    learning_rate: ClassVar[float | None] = 1e-3  # within the range of Ben Zaken et al., 2022
    needs_biases: ClassVar[bool] = True

    def select_parameters(self, loaded: LoadedModel) -> Collection[str]:
        """Return the names of the parameters to train.

        Raises:
            InstructLabError: the model has no biases.
        """
        found = {name for name, _ in loaded.model.named_parameters() if name.rpartition(".")[2] == "bias"}
        if not found:
            raise InstructLabError(
                "The model has no biases to train",
                where="tuning",
                do="choose another method: tuning=ia3 is as small",
            )
        return found


@component
class HeadOnly(Partial):
    """Training of only the output projection, or of the head of a reward model (linear probing).

    A projection that is tied to the input embeddings gets its own copy of their weights, so that only the projection
    changes. An exported model holds both weight matrices.
    """

    def select_parameters(self, loaded: LoadedModel) -> Collection[str]:
        """Return the names of the parameters to train.

        If the output projection is tied to the input embeddings, it first gets its own copy of the weights.
        """
        if loaded.new_modules:
            return []
        model = loaded.model
        output = model.get_output_embeddings()
        if output.weight is model.get_input_embeddings().weight:
            _untie(model, output)
        parameters = {id(parameter) for parameter in output.parameters()}
        return {name for name, parameter in model.named_parameters() if id(parameter) in parameters}


def _untie(model: Any, output: Any) -> None:
    """Give the output projection its own copy of the weights that it shares with the input embeddings."""
    import torch

    weight = output.weight.detach().clone()
    if getattr(model.config, "scale_decoder_outputs", False):  # T5 scales the output of a tied projection
        weight *= model.config.d_model**-0.5
        model.config.scale_decoder_outputs = False
    output.weight = torch.nn.Parameter(weight)
    if sum(len(getattr(module, "_tied_weights_keys", None) or ()) for module in model.modules()) < 2:
        model.config.tie_word_embeddings = False
    # Otherwise other weights are also tied (BART's encoder and decoder, BERT's bias). They have to be tied again when
    # an exported model is loaded. transformers does not tie weights that are both in the file.
