"""Full fine-tuning: every parameter is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, wrap_errors
from instruct_lab.tuning.base import Tuning

if TYPE_CHECKING:
    from instruct_lab.model import LoadedModel


@component
class Full(Tuning):
    """Full fine-tuning: every parameter of the model is trained.

    Training needs memory for all weights, their gradients and the optimizer's states. Checkpoints hold the whole model.
    """

    learning_rate: ClassVar[float | None] = 2e-5  # measured: experiments=tuning_methods
    trains_new_tokens: ClassVar[bool] = True

    def learning_rate_for(self, hidden_size: int | None, pretrained: bool = True) -> float | None:
        """Return `learning_rate` for pretrained weights, and 1e-3 for random weights.

        The study `experiments=translation_from_scratch` trains random weights with 1e-3.
        """
        return self.learning_rate if pretrained else 1e-3

    def apply(self, loaded: LoadedModel) -> LoadedModel:
        """Switch on `requires_grad` for every parameter."""
        loaded.model.requires_grad_(True)
        return loaded

    def save(self, loaded: LoadedModel, path: Path) -> None:
        """Write the whole model with `save_pretrained`, in safetensors files."""
        loaded.model.save_pretrained(path)

    def load(self, loaded: LoadedModel, path: Path) -> LoadedModel:
        """Load the model that `save` wrote, with the dtype, device and training or evaluation mode of `loaded`.

        Raises:
            InstructLabError: the folder holds no weights, damaged weights, or weights of another model.
        """
        if not any(path.glob("*.safetensors")):
            raise InstructLabError("The folder holds no trained weights", where=str(path), do="finish the run first")
        model = loaded.model
        do = "take another checkpoint of the run"
        with wrap_errors(what="The trained weights cannot be read", where=str(path), do=do):
            trained, found = type(model).from_pretrained(
                path,
                config=model.config,
                ignore_mismatched_sizes=True,
                dtype=model.dtype,
                attn_implementation=model.config._attn_implementation,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
        self._check(found, path)
        trained.config._name_or_path = trained.name_or_path = model.config._name_or_path
        trained.requires_grad_(True)
        return loaded.with_model(trained.to(model.device).train(model.training))

    def merge(self, loaded: LoadedModel) -> LoadedModel:
        """Return the model unchanged, since full fine-tuning adds no modules."""
        return loaded

    def _check(self, found: dict[str, Any], path: Path) -> None:
        kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
        different = sorted({str(name) for kind in kinds for name in found[kind]})
        if different:
            raise InstructLabError(
                f"The trained weights do not fit this model: {len(different)} tensors differ, such as {different[0]}",
                where=str(path),
                do="use the model that the run was made with",
            )
