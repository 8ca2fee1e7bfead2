"""The base class of tuning methods from the library PEFT, which train and save only added parameters."""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from instruct_lab.config import LimitedExpression, component
from instruct_lab.errors import InstructLabError, wrap_errors
from instruct_lab.memory import limited_allocations
from instruct_lab.model.checkpointing import set_input_gradients
from instruct_lab.tuning.base import Tuning
from instruct_lab.tuning.peft_library import load_peft, without_quantizer

if TYPE_CHECKING:
    from instruct_lab.model import LoadedModel

ALL_LINEAR = "all-linear"
MODULE_FIELDS = ("target_modules", "exclude_modules", "feedforward_modules")
"""Fields of PEFT's configurations that hold names of modules, or one regular expression of their full names."""
NAME_FIELDS = ("modules_to_save", "layers_pattern")
"""Fields of PEFT's configurations that hold only names, which PEFT inserts into regular expressions."""
NAME = re.compile(r"[\w.-]+")
TASK_TYPES = {"decoder": "CAUSAL_LM", "encoder-decoder": "SEQ_2_SEQ_LM"}
"""PEFT's task types, keyed by model family; PEFT has none for masked language models."""


@component
class PeftMethod(Tuning, ABC):
    """Base class of tuning methods from the library PEFT; added parameters are float32, whatever the model's dtype."""

    is_adapter: ClassVar[bool] = True

    @abstractmethod
    def config(self, loaded: LoadedModel, common: dict[str, Any]) -> Any:
        """Build PEFT's configuration of the tuning method.

        Args:
            loaded: the model that gets the adapter.
            common: arguments that all methods share: PEFT's task type, and modules that are trained without an adapter.
        """

    def apply(self, loaded: LoadedModel) -> LoadedModel:
        """Freeze the model and add the method's parameters.

        Raises:
            InstructLabError: the method does not fit the model, or would leave new tokens untrained.
        """
        peft = load_peft()
        model = loaded.model
        if loaded.added_token_ids and not self.trains_new_tokens:
            raise InstructLabError(
                f"{type(self).__name__} would leave the {len(loaded.added_token_ids)} new tokens of the tokenizer "
                "untrained",
                where="model.tokenizer.extra_tokens",
                do="choose tuning=lora, which trains them too, or tuning=full",
            )
        frozen = {id(parameter) for parameter in model.parameters()}
        layers = ", ".join(linear_names(model))
        do = f"correct the setting, or name some of this model's linear layers in tuning.target_modules: {layers}"
        with wrap_errors(ValueError, what="No adapter can be added", where=f"tuning: {type(self).__name__}", do=do):
            config = self.config(loaded, self._common(loaded))
            _replace_patterns(config, model, "tuning")
            with without_quantizer(config), limited_allocations("tuning"):
                adapted: Any = peft.get_peft_model(model, config, autocast_adapter_dtype=True)
        for parameter in adapted.parameters():
            if parameter.requires_grad and id(parameter) not in frozen:
                parameter.data = parameter.data.float()
        _cast_inputs_of_whole_modules(adapted)
        set_input_gradients(model)
        return loaded.with_model(adapted)

    def _common(self, loaded: LoadedModel) -> dict[str, Any]:
        new = list(loaded.new_modules)
        return {"task_type": self._task(loaded.family, bool(new)), **({"modules_to_save": new} if new else {})}

    def _task(self, family: str, scores: bool) -> str | None:
        """Return PEFT's task type, such as `CAUSAL_LM`, or `None` if PEFT has none for the family.

        Args:
            family: the model's family.
            scores: whether the model is a reward model, which has the task type `SEQ_CLS`.
        """
        return "SEQ_CLS" if scores else TASK_TYPES.get(family)

    def save(self, loaded: LoadedModel, path: Path) -> None:
        """Write only the adapter, as PEFT does."""
        loaded.model.save_pretrained(path, save_embedding_layers=False)

    def load(self, loaded: LoadedModel, path: Path) -> LoadedModel:
        """Add the saved adapter to the base model.

        Raises:
            InstructLabError: the folder holds no adapter, a damaged adapter, or an adapter of another model.
        """
        peft = load_peft()
        with _read_errors(path):
            config = peft.PeftConfig.from_pretrained(str(path))
            _refuse_foreign_code(config, path)
            _replace_patterns(config, loaded.model, str(path / "adapter_config.json"))
            with without_quantizer(config), limited_allocations(str(path / "adapter_config.json")):
                adapted: Any = peft.PeftModel.from_pretrained(
                    loaded.model, str(path), config=config, is_trainable=False
                )
            _read_whole_modules(adapted, path)
        _check_names(adapted, path)
        _cast_inputs_of_whole_modules(adapted)
        return loaded.with_model(adapted)

    def merge(self, loaded: LoadedModel) -> LoadedModel:
        """Merge the adapter into the frozen weights and remove its modules.

        Raises:
            InstructLabError: the adapter holds numbers that are not finite.
        """
        adapted = loaded.model
        _unwrap_whole_modules(adapted)
        do = "train with a lower learning rate or gradient clipping, or take an earlier checkpoint"
        with wrap_errors(ValueError, what="The adapter cannot be merged", do=do):
            merged: Any = adapted.merge_and_unload(safe_merge=True)
        return loaded.with_model(merged, initial_adapter=None)


def _whole_modules(adapted: Any) -> list[tuple[str, Any]]:
    """Return the modules whose own weights are trained instead of an adapter (`modules_to_save`), with their names."""
    from peft.utils import ModulesToSaveWrapper

    found = [(name, m) for name, m in adapted.named_modules() if isinstance(m, ModulesToSaveWrapper)]
    return [(name, wrapper.modules_to_save["default"]) for name, wrapper in found]


def _read_whole_modules(adapted: Any, path: Path) -> None:
    """Load fully trained modules in float32, the dtype of their file; PEFT would round them to the model's dtype."""
    import peft
    from safetensors.torch import load_file

    whole = [module for _, module in _whole_modules(adapted)]
    if any(p.dtype.itemsize < 4 for module in whole for p in module.parameters()):
        for module in whole:
            module.float()
        peft.set_peft_model_state_dict(adapted, load_file(path / "adapter_model.safetensors"))


def _cast_inputs_of_whole_modules(adapted: Any) -> None:
    """Cast the inputs of fully trained modules to the modules' dtype."""
    for _, module in _whole_modules(adapted):
        module.register_forward_pre_hook(_cast_to_weights)


def _cast_to_weights(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    weight = next(module.parameters())
    return tuple(a.to(weight.dtype) if getattr(a, "is_floating_point", bool)() else a for a in arguments)


def _unwrap_whole_modules(adapted: Any) -> None:
    """Replace the modules that were trained in full by their trained copies.

    When PEFT itself merges an adapter, it does this only for layers with a single weight.
    """
    for name, module in _whole_modules(adapted):
        parent, _, last = name.rpartition(".")
        setattr(adapted.get_submodule(parent), last, module)


def matching_modules(pattern: str, names: Iterable[str], where: str) -> list[str]:
    """Return the names that a regular expression matches from start to end.

    Args:
        pattern: the regular expression.
        names: names of modules.
        where: the config key of the expression, for error messages.
    """
    expression = LimitedExpression(pattern, where=where)
    return [name for name in names if expression.fullmatch(name)]


def _replace_patterns(config: Any, model: Any, where: str) -> None:
    """Replace the regular expressions in PEFT's configuration by the names of the modules that they match.

    PEFT would match the expressions with `re`, which has no time limit.

    Raises:
        InstructLabError: a regular expression is invalid, needs too much time, matches no module, or stands in a field
            that takes only names.
    """
    names = [name for name, _ in model.named_modules()]
    for field in MODULE_FIELDS:
        pattern = getattr(config, field, None)
        if isinstance(pattern, str) and pattern != ALL_LINEAR:
            found = matching_modules(pattern, names, f"{where}.{field}")
            if not found and field == "target_modules":
                raise InstructLabError(
                    f"No module of the model matches {pattern!r}",
                    where=f"{where}.{field}",
                    do=f"this model's linear layers are {', '.join(linear_names(model))}",
                )
            setattr(config, field, set(found) or None)
    for field, value in list(vars(config).items()):
        if field.endswith("_pattern") and isinstance(value, Mapping):  # such as rank_pattern
            setattr(config, field, _keyed_by_name(value, names, f"{where}.{field}"))
    for field in NAME_FIELDS:
        value = getattr(config, field, None) or []
        for name in [value] if isinstance(value, str) else value:
            if NAME.fullmatch(name) is None:
                raise InstructLabError(f"{name!r} is not a name", where=f"{where}.{field}", do="write names of modules")


def _keyed_by_name(values: Mapping[str, Any], names: list[str], where: str) -> dict[str, Any]:
    """Replace each key that is a regular expression by the names of the modules that it matches.

    Args:
        values: settings of modules, keyed by a module's name or a regular expression. If several keys match a module,
            the first one applies.
        names: full names of the model's modules.
        where: the config key of the mapping, for error messages.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        is_name = NAME.fullmatch(key) is not None
        for name in [key] if is_name else matching_modules(rf"(.*\.)?({key})", names, where):
            found.setdefault(name, value)
    return found


def _refuse_foreign_code(config: Any, path: Path) -> None:
    """Refuse an adapter whose configuration would make PEFT import a Python module or load other adapters."""
    if getattr(config, "megatron_config", None) or str(config.peft_type).endswith("XLORA"):
        raise InstructLabError(
            "The adapter names a module or other adapters that PEFT would load (megatron_config, or the type XLORA)",
            where=str(path / "adapter_config.json"),
            do="use an adapter that a run of this package has saved",
        )


def linear_names(model: Any) -> list[str]:
    """Return the last part of the name of each linear layer, such as `q_proj`, except the output layer."""
    import torch

    output = model.get_output_embeddings()
    linear = [name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not output]
    return sorted({name.rpartition(".")[2] for name in linear})


@contextlib.contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Convert errors that occur while an adapter is read from a folder to an `InstructLabError`."""
    if not (path / "adapter_config.json").is_file() or not (path / "adapter_model.safetensors").is_file():
        raise InstructLabError("The folder holds no adapter", where=str(path), do="finish the run first")
    do = "use the model that the run was made with, or take another checkpoint of the run"
    with wrap_errors(what="The adapter cannot be put on this model", where=str(path), do=do):
        yield


def _check_names(adapted: Any, path: Path) -> None:
    """Refuse an adapter file with missing or unexpected tensors, which PEFT would load without an error."""
    import peft
    from safetensors import safe_open

    with _read_errors(path), safe_open(path / "adapter_model.safetensors", framework="pt") as file:
        saved = set(file.keys())
    different = saved ^ set(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if different:
        raise InstructLabError(
            f"The adapter does not fit this model: {len(different)} tensors differ, such as {min(different)}",
            where=str(path),
            do="use the model that the run was made with",
        )
