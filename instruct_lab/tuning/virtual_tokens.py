"""Methods that train virtual tokens placed before the text: prompt tuning, P-tuning and prefix tuning."""

from __future__ import annotations

from abc import ABC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.tuning.cache_names import bridge_cache_names, cache_name
from instruct_lab.tuning.peft_method import TASK_TYPES, PeftMethod

if TYPE_CHECKING:
    from instruct_lab.model import LoadedModel


@component
class VirtualTokens(PeftMethod, ABC):
    """Base class of methods that train vectors placed before each text; the vectors cannot be merged into the model."""

    mergeable: ClassVar[bool] = False

    num_virtual_tokens: Annotated[int, Field(ge=1)] = 20  # number of virtual tokens before each text

    @property
    def num_added_positions(self) -> int:
        """Number of positions that the virtual tokens occupy before each text."""
        return self.num_virtual_tokens

    def apply(self, loaded: LoadedModel) -> LoadedModel:
        """Freeze the model and prepend trained vectors to every text."""
        adapted = super().apply(loaded)
        return adapted.with_model(bridge_cache_names(adapted.model))

    def load(self, loaded: LoadedModel, path: Path) -> LoadedModel:
        """Add the saved virtual tokens to the base model."""
        adapted = super().load(loaded, path)
        return adapted.with_model(bridge_cache_names(adapted.model))

    def _task(self, family: str, scores: bool) -> str | None:
        """Return PEFT's task type for a model, such as `CAUSAL_LM`.

        A model that does not generate text gets `FEATURE_EXTRACTION`, because PEFT then returns the model's own outputs
        unchanged.

        Args:
            family: the model family.
            scores: whether the model has a score head.
        """
        return "FEATURE_EXTRACTION" if scores or family == "encoder" else TASK_TYPES[family]

    def _arguments(self, loaded: LoadedModel, common: dict[str, Any]) -> dict[str, Any]:
        return {**common, "num_virtual_tokens": self.num_virtual_tokens}


@component
class PromptTuning(VirtualTokens):
    r"""Prompt tuning: trained embeddings P before the embeddings of the text, [P; E(x)]. Source: Lester et al., 2021.

    In an encoder-decoder, P precedes the encoder's input. P is initialised at random, with the embeddings of random
    tokens of the vocabulary, or with the embeddings of a text, repeated or cut to the number of virtual tokens.
    """

    learning_rate: ClassVar[float | None] = 3e-2  # measured: experiments=tuning_methods

    init: Literal["random", "vocabulary", "text"] = "vocabulary"  # initial embeddings
    init_text: Annotated[str, Field(min_length=1)] | None = None  # initial text; only with init=text

    def __post_init__(self) -> None:
        if (self.init == "text") != (self.init_text is not None):
            raise Refusal("init_text", "init=text needs a text, and no other init takes one")

    def learning_rate_for(self, hidden_size: int | None, pretrained: bool = True) -> float | None:
        """Return 1e-2 if `init` is `text`, so that the embeddings stay near those of the text; otherwise 3e-2."""
        return 1e-2 if self.init == "text" else self.learning_rate

    def config(self, loaded: LoadedModel, common: dict[str, Any]) -> Any:
        """Build PEFT's configuration of prompt tuning from the fields of this class."""
        import peft

        return peft.PromptTuningConfig(
            prompt_tuning_init="RANDOM", num_transformer_submodules=1, **self._arguments(loaded, common)
        )

    def apply(self, loaded: LoadedModel) -> LoadedModel:
        """Freeze the model and prepend trained embeddings to every text."""
        adapted = super().apply(loaded)
        if self.init != "random":
            import torch

            ids = torch.tensor(self._initial_ids(loaded.tokenizer))
            with torch.no_grad():
                known = loaded.model.get_input_embeddings()(ids)  # [num_virtual_tokens, hidden]
                adapted.model.prompt_encoder["default"].embedding.weight.copy_(known)
        return adapted

    def _initial_ids(self, tokenizer: Any) -> list[int]:
        import torch

        if self.init == "vocabulary":
            special = set(tokenizer.all_special_ids)
            ordinary = sorted(number for number in tokenizer.get_vocab().values() if number not in special)
            drawn = torch.randint(len(ordinary), (self.num_virtual_tokens,)).tolist()
            return [ordinary[index] for index in drawn]
        ids: list[int] = tokenizer(self.init_text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise InstructLabError("The text has no tokens", where="tuning.init_text", do="write one that has")
        return (ids * -(-self.num_virtual_tokens // len(ids)))[: self.num_virtual_tokens]


@component
class PTuning(VirtualTokens):
    r"""P-tuning: a small trained network computes the virtual tokens, [MLP(P); E(x)]. Source: Liu et al., 2021.

    P are trained embeddings, and E(x) are the embeddings of the text.
    """

    learning_rate: ClassVar[float | None] = 1e-3  # a common choice, not measured; the network is trained too

    hidden_size: Annotated[int, Field(ge=1)] = 128  # hidden size of the network

    def config(self, loaded: LoadedModel, common: dict[str, Any]) -> Any:
        """Build PEFT's configuration of P-tuning from the fields of this class."""
        import peft

        return peft.PromptEncoderConfig(
            encoder_hidden_size=self.hidden_size, num_transformer_submodules=1, **self._arguments(loaded, common)
        )


@component
class PrefixTuning(VirtualTokens):
    """Prefix tuning: trained keys and values precede those of the text in every layer. Source: Li and Liang, 2021.

    In an encoder-decoder, the trained keys and values are added only in the decoder.
    """

    learning_rate: ClassVar[float | None] = 1e-2  # measured: experiments=tuning_methods

    projection: bool = False  # train a network that computes the keys and values instead
    hidden_size: Annotated[int, Field(ge=1)] = 128  # hidden size of the network; only with projection

    def config(self, loaded: LoadedModel, common: dict[str, Any]) -> Any:
        """Build PEFT's configuration of prefix tuning from the fields of this class.

        Raises:
            InstructLabError: the model has no cache of keys and values.
        """
        import peft

        model = loaded.model
        if cache_name(model) is None:
            raise InstructLabError(
                f"A {type(model).__name__} takes no keys and values before a text",
                where="tuning",
                do="choose tuning=prompt_tuning or tuning=p_tuning",
            )
        return peft.PrefixTuningConfig(
            prefix_projection=self.projection, encoder_hidden_size=self.hidden_size, **self._arguments(loaded, common)
        )
