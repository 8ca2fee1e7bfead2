"""Scaling of rotary positions for texts that are longer than in pretraining."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import InstructLabError, wrap_errors

UNSCALED = ("default", None)


@component
class RopeScaling(Component):
    """Stretching of rotary positions, so that a text can be `factor` times as long as in pretraining.

    `linear` divides every position by the factor (Chen et al., 2023). `dynamic` raises the base of the frequencies when
    a text is longer than in pretraining (NTK-aware scaling). `yarn` stretches only low frequencies (Peng et al., 2023).
    The model needs rotary positions (Llama, Qwen, Gemma, ModernBERT). In models with sliding-window layers, only the
    positions in the other layers are stretched. The model benefits only after some training at the new length.
    """

    type: Literal["linear", "dynamic", "yarn"] = "linear"  # how positions are stretched
    factor: Annotated[float, Field(gt=1)]  # new maximum length divided by the length in pretraining
    original_max_position_embeddings: Annotated[int, Field(ge=1)] | None = (
        None  # maximum length in pretraining; null: from the model's configuration
    )

    def apply(self, config: Any, name: str) -> Any:
        """Set the scaling in the model's configuration, in place, and return the configuration.

        The configuration stays as it is if it already has this scaling, as after an export.

        Args:
            config: the transformers configuration.
            name: name of the model in error messages.

        Raises:
            InstructLabError: the model has no rotary positions, or is already scaled in another way.
        """
        rope = getattr(config, "rope_parameters", None)
        if not rope:
            raise InstructLabError(
                f"Models of the class {config.model_type} have no rotary positions to scale",
                where=f"model.rope_scaling, {name}",
                do="leave model.rope_scaling at null",
            )
        parameters = self._parameters(rope)
        original = (
            self.original_max_position_embeddings
            or parameters.get("original_max_position_embeddings")
            or config.max_position_embeddings
        )
        if parameters.get("rope_type") in UNSCALED:
            self._scale(config, parameters, original)
            self._check(config, name)
        elif not self._is_applied(config, parameters):
            raise InstructLabError(
                f"The weights' own positions are already scaled ({parameters['rope_type']})",
                where=f"model.rope_scaling, {name}",
                do="leave model.rope_scaling at null",
            )
        return config

    def _parameters(self, rope: dict[str, Any]) -> dict[str, Any]:
        """Return the rotary parameters that are to be scaled.

        If a configuration has parameters of its own for each type of layer, those of the layers with full attention
        are returned.
        """
        nested = [value for value in rope.values() if isinstance(value, dict)]
        return rope.get("full_attention") or nested[0] if nested else rope

    def _scale(self, config: Any, parameters: dict[str, Any], original: int) -> None:
        parameters |= {"rope_type": self.type, "factor": self.factor}
        if self.type == "yarn":
            parameters["original_max_position_embeddings"] = original
        if self.type == "dynamic":  # transformers reads the length in pretraining from this field
            config.max_position_embeddings = original
        else:
            config.max_position_embeddings = int(original * self.factor)

    def _check(self, config: Any, name: str) -> None:
        with wrap_errors(
            what=f"Models of the class {config.model_type} refuse this scaling",
            where=f"model.rope_scaling, {name}",
            do="choose another type, or leave model.rope_scaling at null",
        ):
            config.validate_rope()

    def _is_applied(self, config: Any, parameters: dict[str, Any]) -> bool:
        return (parameters["rope_type"], parameters.get("factor")) == (self.type, self.factor)
