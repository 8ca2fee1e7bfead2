"""Loading of models from folders.

It adds checks that transformers lacks, and works around faults of bitsandbytes in training with 4-bit layers on a CPU.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError
from instruct_lab.memory import check_memory
from instruct_lab.model.family import check_family
from instruct_lab.model.hardware import has_gpu
from instruct_lab.model.score import score_modules
from instruct_lab.model.weights.base import Loading
from instruct_lab.model.weights.folder_contents import weight_files
from instruct_lab.model.weights.library_calls import (
    loading_errors,
    own_seed,
    without_load_report,
    without_progress_bars,
)


def folder_model(folder: Path, name: str, loading: Loading) -> tuple[Any, tuple[str, ...]]:
    """Load the model in a folder; return it with the names of its modules that were not pretrained (a score head).

    Args:
        folder: a folder that `save_pretrained` wrote.
        name: name of the model in error messages; it is also recorded as the model's name, which exports show.
        loading: settings for loading.

    Raises:
        InstructLabError: the weights are missing, pickled, damaged or incomplete, or the architecture is unknown.
    """
    import torch
    import transformers

    if (folder / "adapter_config.json").exists():
        raise InstructLabError(
            "The folder holds an adapter beside the model, which transformers would add without a record of it",
            where=name,
            do="merge the adapter into the model, or remove adapter_config.json",
        )
    is_pickled = weight_files(folder, name, loading.allow_pickle)[0].suffix != ".safetensors"
    # a new head is initialised with the same seed in every run
    with loading_errors(name), without_progress_bars(), without_load_report(), own_seed(0):
        config = transformers.AutoConfig.from_pretrained(
            str(folder), trust_remote_code=loading.trust_remote_code, local_files_only=True
        )
        adjust_config(config, loading, name)
        auto = getattr(transformers, loading.auto_class)
        if loading.quantization is None or not has_gpu():  # otherwise the weights are read to the GPU
            check_memory(config, auto, loading.bytes_per_number, name, loading.trust_remote_code)
        model, found = auto.from_pretrained(
            str(folder),
            config=config,
            dtype=getattr(torch, loading.dtype),
            attn_implementation=loading.attention,
            use_safetensors=not is_pickled,
            trust_remote_code=loading.trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
            **_quantization_arguments(auto, config, loading),
        )
    if loading.quantization is not None:
        _correct_on_cpu(model, name)
    missing = sorted(found["missing_keys"])
    new_modules: tuple[str, ...] = ()
    if loading.gives_score:
        new_modules = score_modules(model, missing)
        missing = [key for key in missing if not any(f".{module}." in f".{key}" for module in new_modules)]
    if missing:  # transformers draws them at random
        raise InstructLabError(
            f"The weights lack {len(missing)} of the model's tensors, such as {missing[0]}",
            where=name,
            do=f"provide all weight files, or choose a model that {loading.auto_class} loads without new parameters",
        )
    model.config._name_or_path = name
    model.name_or_path = name
    return model, new_modules


def adjust_config(config: Any, loading: Loading, name: str) -> None:
    """Check a transformers configuration, and change it as `loading` requires.

    If `loading` has a scaling of rotary positions, the positions are scaled. If it requires a score, the model gets a
    single output: the score of a whole text.

    Raises:
        InstructLabError: the configuration is of a family other than `loading.family`, or its positions cannot be
            scaled.
    """
    check_family(config, loading.family, name)
    if loading.rope_scaling is not None:
        loading.rope_scaling.apply(config, name)
    if loading.gives_score:
        config.num_labels = 1


def _quantization_arguments(auto: Any, config: Any, loading: Loading) -> dict[str, Any]:
    """Return keyword arguments of `from_pretrained`, with which it quantises the weights while reading them.

    Quantised weights are read directly to the device that will run the model. If the weights are not to be quantised,
    the dictionary is empty.
    """
    import torch

    if loading.quantization is None:
        return {}
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it would log a cast at every product
    kept = None
    if loading.gives_score:
        with torch.device("meta"):
            model = auto.from_config(config)
        new = tuple(f".{module}" for module in score_modules(model))
        kept = [name for name, _ in model.named_modules() if f".{name}".endswith(new)]
    device = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, loading.dtype)
    return {"quantization_config": loading.quantization.config(dtype, kept), "device_map": {"": device}}


def _correct_on_cpu(model: Any, name: str) -> None:
    """Make 4-bit layers on a CPU pass gradients on, or refuse the layers if they would be read incorrectly.

    At the first evaluation, bitsandbytes 0.50 switches to an inference kernel, and then uses it in training too. This
    kernel has no gradient, so everything before the last quantised layer would silently stop learning. The switch is
    therefore turned off. bitsandbytes also reads weights incorrectly if the length of their rows is not a multiple of
    the block size.

    Raises:
        InstructLabError: the length of a layer's rows is not a multiple of the block size.
    """
    for layer, module in model.named_modules():
        if not hasattr(module, "support_avx512bf16_for_cpu") or module.weight.device.type != "cpu":
            continue
        module.support_avx512bf16_for_cpu = False
        if module.in_features % module.weight.blocksize:
            raise InstructLabError(
                f"On a CPU, 4-bit weights are read incorrectly if a layer's width is not a multiple of "
                f"{module.weight.blocksize} ({layer}: {module.in_features})",
                where=f"model.quantization, {name}",
                do="choose model.quantization=8bit, or run on a GPU",
            )
