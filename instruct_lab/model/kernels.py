"""Optional packages with fused GPU kernels for norms, feed-forward layers and the cross-entropy."""

from __future__ import annotations

import sys
from typing import Any, Literal

from instruct_lab.errors import InstructLabError
from instruct_lab.model.hardware import no_gpu
from instruct_lab.optional_packages import missing_reason

Kernels = Literal["none", "liger", "cut_cross_entropy", "all"]
"""The packages with fused kernels that a model uses."""

PACKAGES = {
    "none": (),
    "liger": ("liger_kernel",),
    "cut_cross_entropy": ("cut_cross_entropy",),
    "all": ("liger_kernel", "cut_cross_entropy"),
}
"""Import names of the packages with fused kernels, keyed by the value of `model.kernels`."""
CHANGED_GLOBALLY = ("rope", "cross_entropy", "fused_linear_cross_entropy", "layer_norm")
"""Kernels of Liger that stay off, since they replace functions or classes that other models of the process use too."""


def kernels_obstacle(kernels: Kernels) -> str | None:
    """Return the reason why the kernels cannot be used on this machine, or `None` if they can."""
    packages = PACKAGES[kernels]
    gpu = no_gpu() if packages else None
    reasons = [f"computes only on a GPU, and {gpu}" if gpu else None, missing_reason(*packages)]
    return "; ".join(filter(None, reasons)) or None


def use_kernels(model: Any, kernels: Kernels) -> None:
    """Let a model compute with fused kernels.

    Liger replaces the norms and feed-forward layers of this model only. The cross-entropy of `cut_cross_entropy` is
    used by the objectives (`instruct_lab.objective.target_logits`), which otherwise compute logits in chunks.

    Args:
        model: a model of transformers, without adapters.
        kernels: the value of `model.kernels`.

    Raises:
        InstructLabError: Liger has no kernels for the architecture.
    """
    packages = PACKAGES[kernels]
    if "liger_kernel" in packages:
        _use_liger(model)
    if "cut_cross_entropy" in packages and model.get_output_embeddings() is not None:
        model.get_output_embeddings().uses_cut_cross_entropy = True


def uses_cut_cross_entropy(projection: Any) -> bool:
    """Whether losses are computed by `cut_cross_entropy`, which supports only output projections without a bias.

    Args:
        projection: the model's output projection, which `use_kernels` has marked if the package shall be used.
    """
    return getattr(projection, "uses_cut_cross_entropy", False) and projection.bias is None


def _use_liger(model: Any) -> None:
    from liger_kernel.transformers import _apply_liger_kernel_to_instance
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    kind = model.config.model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise InstructLabError(
            f"Liger has no kernels for the architecture {kind}",
            where="model.kernels",
            do="set it to none or cut_cross_entropy",
        )
    names = vars(sys.modules[type(model).__module__])
    before = dict(names)
    try:
        _apply_liger_kernel_to_instance(model=model, **dict.fromkeys(CHANGED_GLOBALLY, False))
    finally:
        names.update(before)  # it also replaces classes in the module, from which other models are built
