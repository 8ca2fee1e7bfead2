"""An example of a tuning method of your own: any method of the PEFT library can be added with one class like this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.tuning import PeftMethod

if TYPE_CHECKING:
    from instruct_lab.model import LoadedModel


@component
class LoHa(PeftMethod):
    """Low-rank Hadamard product: W + (B1·A1) ∘ (B2·A2). Source: Hyeon-Woo et al., 2022 (FedPara).

    W is a frozen weight matrix of the model. A1, B1, A2 and B2 are trained matrices; the products B1·A1 and B2·A2 have
    the rank `r` at most.
    """

    learning_rate: ClassVar[float | None] = 1e-3  # value of optimizer.lr if the config sets none

    r: Annotated[int, Field(ge=1)] = 4  # rank of both products

    def config(self, loaded: LoadedModel, common: dict[str, Any]) -> Any:
        """Return the configuration of this method for the PEFT library.

        Args:
            loaded: the loaded model.
            common: arguments that all methods share: PEFT's task type, and modules that are trained without an adapter.
        """
        import peft  # heavy libraries are imported only where they are used, so that checking a config stays fast

        return peft.LoHaConfig(r=self.r, alpha=self.r, target_modules="all-linear", **common)
