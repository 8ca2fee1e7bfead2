"""The weight files in a model folder."""

from __future__ import annotations

from pathlib import Path

from instruct_lab.errors import InstructLabError

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TEXTS = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.py")
"""Patterns of the file names of configs, tokenizers, chat templates and Python code in a model folder."""
NOT_WEIGHTS = ("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state.pth")


def weight_files(folder: Path, name: str, allow_pickle: bool) -> list[Path]:
    """Return the weight files in a model folder: safetensors files or, if there are none, pickled files.

    Args:
        folder: the model folder; its subfolders are not searched.
        name: name of the model in error messages.
        allow_pickle: whether pickled weights are accepted if there are no safetensors.

    Raises:
        InstructLabError: there are no weight files, or only pickled files that are not allowed.
    """
    safe = sorted(file for file in folder.glob("*.safetensors") if not file.name.startswith("adapter_"))
    if safe:
        return safe
    pickled = sorted(
        {
            file
            for pattern in PICKLED
            for file in folder.glob(pattern)
            if file.name not in NOT_WEIGHTS and not file.name.startswith(("adapter_", "rng_state"))
        }
    )
    if pickled and allow_pickle:
        return pickled
    if pickled:
        raise InstructLabError(
            f"The weights are pickled ({pickled[0].name}), and unpickling can run any code",
            where=name,
            do="convert them to safetensors; or, if you trust whoever made them, set model.allow_pickle=true",
        )
    raise InstructLabError(
        "The model has no weights: there is no *.safetensors file",
        where=name,
        do="add its weights to the folder, or choose another model",
    )
