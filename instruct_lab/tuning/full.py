"""Full fine-tuning: every parameter trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from instruct_lab.config import component
from instruct_lab.errors import InstructLabError
from instruct_lab.tuning.base import Tuning

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS = "model.safetensors"


@component
class Full(Tuning):
    """Every parameter of the model trains.

    Takes the memory of the weights, their gradients and the optimizer's states; a checkpoint holds the whole model.
    """

    is_adapter: ClassVar[bool] = False

    def apply(self, model: PreTrainedModel) -> PreTrainedModel:
        """Let every parameter train."""
        return model.requires_grad_(True)

    def save(self, model: PreTrainedModel, path: Path) -> None:
        """Write the model as `save_pretrained` does, in safetensors."""
        model.save_pretrained(path)

    def load(self, model: PreTrainedModel, path: Path) -> PreTrainedModel:
        """Read the saved weights into the base model, all of them or none."""
        from safetensors.torch import load_file

        shards = sorted(path.glob("model*.safetensors"))
        if not shards:
            raise InstructLabError("The folder holds no trained weights", where=str(path), do="finish the run first")
        state = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
        tied = set(model.all_tied_weights_keys) if getattr(model, "all_tied_weights_keys", None) else set()
        missing = [name for name in missing if name not in tied]
        if missing or unexpected:
            raise InstructLabError(
                f"The trained weights do not fit this model: {len(missing)} missing, {len(unexpected)} unknown",
                where=str(path),
                do="use the model that the run was made with",
            )
        model.tie_weights()
        return model

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """Nothing was added: the model itself."""
        return model
