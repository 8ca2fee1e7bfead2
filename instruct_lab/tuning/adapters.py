"""Adapters that scale, rotate or add to the weights, inputs or outputs of frozen layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import Regex, component
from instruct_lab.errors import InstructLabError, Problem, Refusal
from instruct_lab.model import hardware
from instruct_lab.tuning.peft_method import ALL_LINEAR, PeftMethod

if TYPE_CHECKING:
    from instruct_lab.model import LoadedModel

Names = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
IA3_OF_BERT = (["key", "value", "output.dense"], ["output.dense"])
"""`target_modules` and `feedforward_modules` for BERT, for which PEFT has no default."""


@component
class IA3(PeftMethod):
    """IA3: y = l * (W x), where l is a trained vector of scales. Source: Liu et al., 2022.

    The scales apply to keys, values and feed-forward activations. Training starts from the base model, with l = 1. IA3
    adds very few parameters and needs a high learning rate.
    """

    learning_rate: ClassVar[float | None] = 1e-2  # measured: experiments=tuning_methods

    target_modules: Names | None = None  # layers that are scaled; null: PEFT's choice for the architecture
    feedforward_modules: Names | None = None  # target modules whose inputs are scaled instead; null: PEFT's choice

    def __post_init__(self) -> None:
        if (self.target_modules is None) != (self.feedforward_modules is None):
            raise Refusal("feedforward_modules", "give target_modules and feedforward_modules together, or neither")
        if not set(self.feedforward_modules or ()) <= set(self.target_modules or ()):
            raise Refusal("feedforward_modules", "names a layer that is not one of target_modules")

    def config(self, loaded: LoadedModel, common: dict[str, Any]) -> Any:
        """Build PEFT's configuration of IA3 from the fields of this class."""
        import peft

        scaled, feedforward = self.target_modules, self.feedforward_modules
        if scaled is None and loaded.model.config.model_type == "bert":
            scaled, feedforward = IA3_OF_BERT
        return peft.IA3Config(target_modules=scaled, feedforward_modules=feedforward, **common)


@component
class OFT(PeftMethod):
    r"""Orthogonal fine-tuning: y = W (R x), with R block-diagonal and orthogonal. Source: Qiu et al., 2023.

    R rotates the input of a layer, which keeps the angles between neurons. If `block_size` does not divide the number
    of a layer's inputs, PEFT uses another block size for this layer.
    """

    learning_rate: ClassVar[float | None] = 1e-3  # a common choice, not measured

    block_size: Annotated[int, Field(ge=2)] = 32  # number of a layer's inputs that are rotated together
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the blocks that are not rotated, in training
    target_modules: Regex | Names = ALL_LINEAR  # all-linear, names, or one regular expression of the full name

    def config(self, loaded: LoadedModel, common: dict[str, Any]) -> Any:
        """Build PEFT's configuration of OFT from the fields of this class."""
        import peft

        return peft.OFTConfig(
            r=0,
            oft_block_size=self.block_size,
            module_dropout=self.dropout,
            target_modules=self.target_modules,
            **common,
        )


@component
class BOFT(PeftMethod):
    r"""Orthogonal butterfly: OFT with R as a product of sparse orthogonal factors. Source: Liu et al., 2024.

    For more than one factor, PEFT needs a CUDA extension, which it compiles when the adapter is added.
    """

    learning_rate: ClassVar[float | None] = 1e-3  # a common choice, not measured

    block_size: Annotated[int, Field(ge=2)] = 4  # inputs that are rotated together; divides every layer's inputs
    butterfly_factors: Annotated[int, Field(ge=1)] = 1  # number of factors; 1 is OFT
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the blocks that are not rotated, in training
    target_modules: Regex | Names = ALL_LINEAR  # all-linear, names, or one regular expression of the full name

    def config(self, loaded: LoadedModel, common: dict[str, Any]) -> Any:
        """Build PEFT's configuration of BOFT from the fields of this class."""
        import peft

        return peft.BOFTConfig(
            boft_block_size=self.block_size,
            boft_n_butterfly_factor=self.butterfly_factors,
            boft_dropout=self.dropout,
            target_modules=self.target_modules,
            **common,
        )

    def problems(self) -> Iterator[Problem]:
        """Report a problem if there are several butterfly factors and no GPU: PEFT would silently use only one."""
        if self.butterfly_factors > 1 and (absent := hardware.no_gpu()):
            reason = f"several factors need a GPU, and {absent}: PEFT would silently use one"
            key, value = "butterfly_factors", self.butterfly_factors
            yield Problem(key=key, value=value, reason=reason, suggestion="1", kind="unavailable_here")

    def apply(self, loaded: LoadedModel) -> LoadedModel:
        """Freeze the model and add the rotations.

        Raises:
            InstructLabError: the method does not fit the model, or PEFT cannot compile its CUDA extension.
        """
        adapted = super().apply(loaded)
        rotations = [one for name, one in adapted.model.named_parameters() if ".boft_R." in name]
        if any(len(one) != self.butterfly_factors for one in rotations):
            raise InstructLabError(
                f"PEFT uses one butterfly factor instead of {self.butterfly_factors}, since its CUDA extension cannot "
                "be compiled here",
                where="tuning.butterfly_factors",
                do="set it to 1, or install ninja and CUDA's compiler (CUDA_HOME)",
            )
        return adapted


@component
class VeRA(PeftMethod):
    """Vector-based random matrix adaptation: W + b * B (d * A), where only the vectors b and d are trained.

    The random matrices A and B are the same for all layers. They are drawn from `seed` and saved with the adapter.
    Source: Kopiczko et al., 2024.
    """

    learning_rate: ClassVar[float | None] = 1e-2  # within the range of Kopiczko et al., 2024

    r: Annotated[int, Field(ge=1)] = 256  # rank of the random matrices
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # dropout on the adapter's input, in training
    initial_scale: Annotated[float, Field(gt=0)] = 0.1  # initial value of d
    seed: Annotated[int, Field(ge=0)] = 0  # random seed of A and B
    target_modules: Regex | Names = ALL_LINEAR  # all-linear, names, or one regular expression of the full name

    def config(self, loaded: LoadedModel, common: dict[str, Any]) -> Any:
        """Build PEFT's configuration of VeRA from the fields of this class."""
        import peft

        return peft.VeraConfig(
            r=self.r,
            vera_dropout=self.dropout,
            d_initial=self.initial_scale,
            projection_prng_key=self.seed,
            target_modules=self.target_modules,
            **common,
        )


@component
class FourierFT(PeftMethod):
    r"""Fourier tuning: W + scaling * IDFT(F). Source: Gao et al., 2024.

    IDFT is the inverse discrete Fourier transform. F is zero except for a few trained entries at random positions.
    These entries are initialised from a standard normal distribution, as in the paper, so training starts from weights
    that differ from those of the base model. The smaller a layer is, the larger is the difference. With `init: zero`,
    training starts from the base model.
    """

    learning_rate: ClassVar[float | None] = 1e-2  # a common choice, not measured

    families: ClassVar = frozenset({"decoder", "encoder-decoder", "encoder"})

    n_frequency: Annotated[int, Field(ge=1)] = 1000  # trained entries per layer; at most inputs times outputs
    scaling: Annotated[float, Field(gt=0)] = 150.0  # scale of the update; 100 to 300 is usual
    seed: Annotated[int, Field(ge=0)] = 777  # random seed of the positions
    init: Literal["normal", "zero"] = "normal"  # initial values of the entries
    target_modules: Regex | Names = ALL_LINEAR  # all-linear, names, or one regular expression of the full name

    def config(self, loaded: LoadedModel, common: dict[str, Any]) -> Any:
        """Build PEFT's configuration of FourierFT from the fields of this class."""
        import peft

        return peft.FourierFTConfig(
            init_weights=self.init == "zero",
            n_frequency=self.n_frequency,
            scaling=self.scaling,
            random_loc_seed=self.seed,
            target_modules=self.target_modules,
            **common,
        )
