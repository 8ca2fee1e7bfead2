"""Low-rank adaptation (LoRA)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import Regex, component
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.tuning.peft_method import ALL_LINEAR, PeftMethod, linear_names, matching_modules

if TYPE_CHECKING:
    from instruct_lab.model import LoadedModel

MEASURED_RATE, MEASURED_WIDTH = 2e-3, 576
"""The learning rate of LoRA in the study `tuning_methods`, and the hidden size of the study's model, SmolLM2-135M."""
WIDTH_POWER = 0.781
"""The best learning rate falls with this power of the hidden size (*LoRA Without Regret*, for Llama models)."""
ModuleNames = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


@component
class LoRA(PeftMethod):
    r"""Low-rank adaptation: W + (alpha / r)·B·A with W frozen, A and B trained. Source: Hu et al., 2021.

    B starts at zero, so training starts from the base model; A is drawn from torch's random state. If the tokenizer has
    new tokens, their embeddings are also trained, and saved with the adapter.

    DoRA also trains the length of each column of W (Liu et al., 2024). PiSSA (Meng et al., 2024) initialises A and B
    with the principal singular vectors of W, OLoRA (Büyükakyüz, 2024) with the QR decomposition of W; both subtract
    the initial product B·A from W. Their adapters are saved as LoRA adapters of twice the rank, for use with the
    original base model. This conversion is exact in float32; in bfloat16, the weights are rounded. LoRA+ gives B a
    higher learning rate than A (Hayou et al., 2024).
    """

    families: ClassVar = frozenset({"decoder", "encoder-decoder", "encoder"})

    learning_rate: ClassVar[float | None] = MEASURED_RATE  # see `learning_rate_for`
    trains_new_tokens: ClassVar[bool] = True

    r: Annotated[int, Field(ge=1)] = 16  # rank of the update
    alpha: Annotated[float, Field(gt=0)] = 32.0  # the update is scaled by alpha / r
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # dropout on the adapter's input, in training
    target_modules: Regex | ModuleNames = (
        ALL_LINEAR  # all-linear (every linear layer but the output), names, or one regular expression of the full name
    )
    exclude_modules: Regex | ModuleNames | None = None  # modules without adapters: names, or one regular expression
    use_rslora: bool = False  # scale the update by alpha / sqrt(r) instead (Kalajdzievski, 2023)
    use_dora: bool = False  # train lengths and directions of the weights separately (DoRA)
    init: Literal["default", "gaussian", "pissa", "olora"] = "default"  # initial values of A and B
    lr_ratio: Annotated[float, Field(ge=1)] = 1.0  # ratio of B's learning rate to A's (LoRA+); 16 is usual
    bias: Literal["none", "all", "lora_only"] = "none"  # biases that are also trained

    def __post_init__(self) -> None:
        """Refuse empty names of modules, and settings that cannot be combined, such as PiSSA with DoRA."""
        for field in ("target_modules", "exclude_modules"):
            value = getattr(self, field)
            if value == "":
                raise Refusal(field, "names no module", ALL_LINEAR if field == "target_modules" else "null")
        if self.exclude_modules == ALL_LINEAR:
            raise Refusal("exclude_modules", "leaves nothing to adapt", "null")
        if self.init in ("pissa", "olora") and self.use_dora:
            raise Refusal("init", f"{self.init} changes the frozen weights, whose lengths DoRA trains", "default")
        if self.init in ("pissa", "olora") and self.use_rslora:
            raise Refusal(
                "init",
                f"an adapter of {self.init} is saved at twice its rank, which changes its scale",
                "default",
            )

    def config(self, loaded: LoadedModel, common: dict[str, Any]) -> Any:
        """Build PEFT's configuration of LoRA from the fields of this class.

        Raises:
            InstructLabError: a name in `target_modules` or `exclude_modules` matches no module.
        """
        import peft

        self._check_names(loaded.model)
        return peft.LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.target_modules,
            exclude_modules=self._modules_to_exclude(loaded),
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            init_lora_weights=True if self.init == "default" else self.init,
            bias=self.bias,
            trainable_token_indices=_new_rows(loaded),
            **common,
        )

    def apply(self, loaded: LoadedModel) -> LoadedModel:
        """Freeze the model and add adapters to its linear layers.

        Raises:
            InstructLabError: a name in the settings matches no module, or a module that cannot have an adapter.
        """
        adapted = super().apply(loaded)
        if self.keeps_base:
            return adapted
        initial = {name: value.clone() for name, value in _state(adapted.model).items()}
        return dataclasses.replace(adapted, initial_adapter=initial)

    def save(self, loaded: LoadedModel, path: Path) -> None:
        """Write the adapter; an adapter of PiSSA or OLoRA is written with twice its rank.

        The added ranks subtract the initial product B·A, so that the adapter fits the original base model.
        """
        import copy

        from safetensors.torch import save_file

        adapted, initial = loaded.model, loaded.initial_adapter
        if initial is None:
            super().save(loaded, path)
            return
        import torch

        state = {}
        for name, value in _state(adapted).items():
            if ".lora_A." in name:
                value = torch.cat([value, initial[name]], dim=0)  # [2r, inputs]
            elif ".lora_B." in name:
                value = torch.cat([value, -initial[name]], dim=1)  # [outputs, 2r]
            state[name] = value.detach().cpu().contiguous()
        config = copy.deepcopy(adapted.peft_config["default"])
        config.r, config.lora_alpha, config.init_lora_weights = 2 * self.r, 2 * self.alpha, True
        config.inference_mode = True
        config.save_pretrained(path)
        save_file(state, path / "adapter_model.safetensors")

    def learning_rate_factor(self, name: str) -> float:
        """Return `lr_ratio` for the matrices B, and 1 for all other parameters."""
        return self.lr_ratio if ".lora_B." in name else 1.0

    def learning_rate_for(self, hidden_size: int | None, pretrained: bool = True) -> float | None:
        """Return 2e-3 for models with a hidden size of up to 576 or of unknown size, and a lower rate for wider models.

        For a hidden size d above 576, the rate is 1.5 · 5e-4 · (2000 / d)^0.781. Without the factor 1.5, this is the
        rate that *LoRA Without Regret* (Schulman et al., 2025) finds for Llama models. PiSSA and OLoRA use a quarter of
        this rate, because they train the largest components of the weights. With LoRA+, this rate is the geometric mean
        of the learning rates of A and B.
        """
        rate = MEASURED_RATE * (MEASURED_WIDTH / max(hidden_size or 0, MEASURED_WIDTH)) ** WIDTH_POWER
        rate = float(f"{rate:.2g}")  # two digits: the rate is an estimate
        return rate / self.lr_ratio**0.5 / (1 if self.keeps_base else 4)

    @property
    def keeps_base(self) -> bool:
        """Whether disabling the adapter restores the base model: not for PiSSA and OLoRA, which change its weights."""
        return self.init not in ("pissa", "olora")

    def _modules_to_exclude(self, loaded: LoadedModel) -> Any:
        """Return the modules that get no adapter: those in `exclude_modules`, and modules that were not pretrained.

        Modules that were not pretrained are trained in full.
        """
        new = list(loaded.new_modules)
        if not new:
            return self.exclude_modules
        pattern = rf"(.*\.)?({'|'.join(new)})(\..*)?"
        if isinstance(self.exclude_modules, list):
            return [*self.exclude_modules, *new]
        return pattern if self.exclude_modules is None else f"({self.exclude_modules})|{pattern}"

    def _check_names(self, model: Any) -> None:
        """Refuse a name in `target_modules` or `exclude_modules` that matches no module of the model.

        PEFT would ignore such a name if at least one other name matches.
        """
        for field in ("target_modules", "exclude_modules"):
            value = getattr(self, field)
            if value is None or value == ALL_LINEAR:
                continue
            modules = [module for module, _ in model.named_modules()]
            for name in [value] if isinstance(value, str) else value:
                if isinstance(value, str):
                    found = matching_modules(value, modules, f"tuning.{field}")
                else:
                    found = [module for module in modules if module == name or module.endswith(f".{name}")]
                if found:
                    continue
                names = linear_names(model)
                close = nearest(name, names)
                listed = isinstance(value, str) and value in names
                hint = f"as a list: tuning.{field}=[{value}]; " if listed else ""
                hint = f"did you mean {close}? " if close else hint
                raise InstructLabError(
                    f"No module of the model matches {name!r}",
                    where=f"tuning.{field}",
                    do=f"{hint}this model's linear layers are {', '.join(names)}",
                )


def _new_rows(loaded: LoadedModel) -> dict[str, list[int]] | None:
    """Return the indices of the embedding rows of new tokens, keyed by the layer's name; `None` without new tokens.

    Tied embeddings count as one layer.
    """
    model, rows = loaded.model, loaded.added_token_ids
    if not rows:
        return None
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    if layers[1] is None or layers[1].weight is layers[0].weight:
        layers = layers[:1]
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(layer)].rpartition(".")[2]: list(rows) for layer in layers}


def _state(adapted: Any) -> dict[str, Any]:
    import peft

    state: dict[str, Any] = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return state
