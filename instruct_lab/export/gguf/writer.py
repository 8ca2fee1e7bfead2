"""Write a GGUF file tensor by tensor, so that no second copy of the model is in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError
from instruct_lab.export.formats import WeightType
from instruct_lab.export.gguf.architecture import (
    ARCHITECTURES,
    add_architecture,
    check_config,
    file_values,
    named_tensors,
)
from instruct_lab.export.gguf.vocabulary import add_vocabulary, check_vocabulary
from instruct_lab.model import LoadedModel

BLOCK = 32
LARGEST_F16 = 65504.0


def write_gguf(
    loaded: LoadedModel, file: Path, weight_type: WeightType, name: str, stop_token_ids: Sequence[int]
) -> None:
    """Write a model as a GGUF file, and check that the tokenizer in the file encodes texts like the model's.

    Vectors are always written in float32. If the matrices are quantised to 4 or 5 bits, the embeddings and the output
    layer are quantised to 8 bits instead.

    Args:
        loaded: the model, with any adapter merged into it, and its tokenizer.
        file: the file to write.
        weight_type: number type of the weight matrices.
        name: name of the model that is stored in the file.
        stop_token_ids: tokens that end an answer.

    Raises:
        InstructLabError: a GGUF file cannot express the model or its tokenizer, or a weight is too large for `f16`.
    """
    import gguf

    config = loaded.model.config
    check_config(config)
    writer = gguf.GGUFWriter(str(file), gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH[ARCHITECTURES[config.model_type]]])
    try:
        writer.add_type("model")
        writer.add_name(name)
        writer.add_file_type(_file_type(weight_type))
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        add_architecture(writer, config)
        add_vocabulary(writer, loaded.tokenizer, config.vocab_size, stop_token_ids)
        _write_tensors(writer, loaded.model, weight_type)
    finally:
        writer.close()
    check_vocabulary(file, loaded.tokenizer)


def _file_type(weight_type: WeightType) -> Any:
    from gguf import LlamaFileType

    return LlamaFileType.ALL_F32 if weight_type == "f32" else LlamaFileType[f"MOSTLY_{weight_type.upper()}"]


def _write_tensors(writer: Any, model: Any, weight_type: WeightType) -> None:
    """Write the header of the file, which lists all tensors, and then the values of each tensor."""
    import numpy as np
    from gguf import GGMLQuantizationType, quants

    for name, tensor in named_tensors(model):
        kind = GGMLQuantizationType[_type_of(name, tuple(tensor.shape), weight_type)]
        shape, dtype = tuple(tensor.shape), {"F32": np.float32, "F16": np.float16}.get(kind.name, np.uint8)
        if dtype is np.uint8:
            shape = quants.quant_shape_to_byte_shape(shape, kind)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        writer.add_tensor_info(name, shape, np.dtype(dtype), size, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in named_tensors(model):
        kind = GGMLQuantizationType[_type_of(name, tuple(tensor.shape), weight_type)]
        values = file_values(model.config, name, tensor)
        if kind == GGMLQuantizationType.F16 and np.abs(values).max(initial=0) > LARGEST_F16:
            what = f"The tensor {name} has values above {LARGEST_F16:,.0f}, which f16 cannot hold"
            raise InstructLabError(what, where="--gguf-type f16", do="choose --gguf-type bf16 or f32")
        writer.write_tensor_data(quants.quantize(values, kind))


def _type_of(name: str, shape: tuple[int, ...], weight_type: WeightType) -> str:
    """Return the name that the package `gguf` gives to the number type in which a tensor is written."""
    if len(shape) < 2 or name.endswith("_norm.weight") or not name.endswith(".weight"):
        return "F32"
    if weight_type in ("f32", "f16", "bf16"):
        return weight_type.upper()
    if shape[-1] % BLOCK:
        return "F16"
    is_outer = name in ("token_embd.weight", "output.weight")
    return "Q8_0" if is_outer else weight_type.upper()
