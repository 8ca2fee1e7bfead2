"""Models and tokenizers from folders, with what transformers gets wrong put right or refused."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError
from instruct_lab.model.family import check_family
from instruct_lab.model.score import score_modules
from instruct_lab.model.weights._folder import weight_files
from instruct_lab.model.weights.base import Loading

logger = logging.getLogger(__name__)


def folder_model(folder: Path, name: str, loading: Loading) -> tuple[Any, tuple[str, ...]]:
    """The model in a folder with all tensors that the folder holds, and the names of its new modules.

    Args:
        folder: as `save_pretrained` writes it.
        name: what the user calls it; an exported model or adapter names it as its base.
        loading: types and permissions.

    Raises:
        InstructLabError: the weights are missing, pickled, damaged or incomplete, or the architecture is unknown.
    """
    import torch
    import transformers

    pickled = weight_files(folder, name, loading.allow_pickle)[0].suffix != ".safetensors"
    with told(name), quiet(), unreported(), seeded(0):  # a head that is new is drawn alike in every run
        config = transformers.AutoConfig.from_pretrained(
            str(folder), trust_remote_code=loading.trust_remote_code, local_files_only=True
        )
        fit_config(config, loading, name)
        auto = getattr(transformers, loading.auto_class)
        model, found = auto.from_pretrained(
            str(folder),
            config=config,
            dtype=getattr(torch, loading.dtype),
            attn_implementation=loading.attention,
            use_safetensors=not pickled,
            trust_remote_code=loading.trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
            **_quantized(auto, config, loading),
        )
    if loading.quantization is not None:
        _fit_for_cpu(model, name)
    missing = sorted(found["missing_keys"])
    new_modules: tuple[str, ...] = ()
    if loading.gives_score:
        new_modules = score_modules(model, missing)
        missing = [key for key in missing if not any(f".{module}." in f".{key}" for module in new_modules)]
    if missing:  # transformers draws them at random
        raise InstructLabError(
            f"The weights lack {len(missing)} of the model's tensors, such as {missing[0]}",
            where=name,
            do=f"bring the whole model, or one that {loading.auto_class} loads without new parameters",
        )
    model.config._name_or_path = name
    model.name_or_path = name
    return model, new_modules


def fit_config(config: Any, loading: Loading, name: str) -> None:
    """Check a configuration and change it as the loading asks.

    Raises:
        InstructLabError: it is of another family, or its positions cannot be scaled.
    """
    check_family(config, loading.family, name)
    if loading.rope_scaling is not None:
        loading.rope_scaling.apply(config, name)
    if loading.gives_score:
        config.num_labels = 1


def _quantized(auto: Any, config: Any, loading: Loading) -> dict[str, Any]:
    """Arguments that quantise the body while it is read, on the device that it will run on."""
    import torch

    if loading.quantization is None:
        return {}
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # tells at every product that numbers are cast
    kept = None
    if loading.gives_score:
        with torch.device("meta"):
            model = auto.from_config(config)
        new = tuple(f".{module}" for module in score_modules(model))
        kept = [name for name, _ in model.named_modules() if f".{name}".endswith(new)]
    place = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, loading.dtype)
    return {"quantization_config": loading.quantization.config(dtype, kept), "device_map": {"": place}}


def _fit_for_cpu(model: Any, name: str) -> None:
    """Keep 4-bit layers on a CPU right, or refuse them.

    bitsandbytes 0.50 packs their weights for its inference kernel at the first evaluation and goes on with it in
    training, where it has no gradient: all that stands before the last quantised layer would stop learning, without a
    word. And it reads weights wrongly whose rows are no whole number of blocks.

    Raises:
        InstructLabError: the rows of a layer are no whole number of blocks.
    """
    for layer, module in model.named_modules():
        if not hasattr(module, "support_avx512bf16_for_cpu") or module.weight.device.type != "cpu":
            continue
        module.support_avx512bf16_for_cpu = False
        if module.in_features % module.weight.blocksize:
            raise InstructLabError(
                f"On a CPU, 4-bit weights are read wrongly where a layer's width is no multiple of "
                f"{module.weight.blocksize} ({layer}: {module.in_features})",
                where=f"model.quantization, {name}",
                do="choose model.quantization=8bit, or run on a GPU",
            )


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw on the CPU from a seed of its own; every random state is left as it was, those of GPUs too."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU as well
        yield


def folder_tokenizer(folder: Path, name: str, trust_remote_code: bool) -> Any:
    """The tokenizer in a folder, as its `tokenizer.json` says.

    Raises:
        InstructLabError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    with told(name, "tokenizer"), quiet():
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, local_files_only=True
        )
    if not tokenizer.get_vocab():
        raise InstructLabError("The tokenizer has no vocabulary", where=name, do="bring its tokenizer.json too")
    if not trust_remote_code:
        restore_text_processing(tokenizer, folder / "tokenizer.json")
    return named(tokenizer, name)


def named(tokenizer: Any, name: str) -> Any:
    """The tokenizer under the name that the user knows, without traces of where it was read."""
    tokenizer.name_or_path = name
    for trace in ("is_local", "local_files_only", "name_or_path"):
        tokenizer.init_kwargs.pop(trace, None)
    return tokenizer


def restore_text_processing(tokenizer: Any, file: Path) -> None:
    """Take normalizer, pre-tokenizer and decoder from `tokenizer.json`, where transformers made up its own.

    A tokenizer class with a constructor of its own builds these anew and keeps the file's vocabulary and merges alone.
    So SmolLM2's GPT2Tokenizer would no longer split digits, and text with numbers would be tokenised otherwise than in
    pretraining.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not file.is_file():
        return
    meant = _text_processing(file)
    changed = []
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        ours, theirs = getattr(backend, part), getattr(meant, part)
        if _state(ours) != _state(theirs):
            setattr(backend, part, theirs)
            changed.append(part)
    if changed:
        logger.info("%s: %s as in tokenizer.json, not as in the class", type(tokenizer).__name__, ", ".join(changed))


def _text_processing(file: Path) -> Any:
    """The tokenizer of a `tokenizer.json`; where that is quick, without its vocabulary."""
    from tokenizers import Tokenizer

    content = json.loads(file.read_text(encoding="utf-8"))
    if content["model"].get("type") != "BPE":
        return Tokenizer.from_file(str(file))
    bare = {**content["model"], "vocab": {}, "merges": [], "unk_token": None}
    return Tokenizer.from_str(json.dumps({**content, "model": bare, "added_tokens": [], "post_processor": None}))


def _state(part: Any) -> Any:
    return None if part is None else json.loads(part.__getstate__())


KEPT_GENERATION = ("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids")
"""What an encoder-decoder needs to write as it was trained: Marian may not write its pad token, which starts its text;
BART was trained to begin with a certain token."""


def plain_generation_config(model: Any, tokenizer: Any) -> Any:
    """What starts and ends an answer and what pads, and none of the checkpoint's own temperature, top_p or length."""
    from transformers import GenerationConfig

    own = getattr(model, "generation_config", None)
    ends = own.eos_token_id if own is not None and own.eos_token_id is not None else tokenizer.eos_token_id
    kept = {}
    if model.config.is_encoder_decoder and own is not None:
        kept = {name: value for name in KEPT_GENERATION if (value := getattr(own, name, None)) is not None}
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id, **kept
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars from transformers."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def unreported() -> Iterator[None]:
    """No table of missing and unexpected tensors from transformers: what is missing is refused here."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


@contextlib.contextmanager
def told(name: str, part: str = "model") -> Iterator[None]:
    """What goes wrong while a model is read, as one paragraph."""
    try:
        yield
    except InstructLabError:
        raise
    except Exception as error:
        whole = " ".join(str(error).split())
        reason = whole[:400] or type(error).__name__
        what = f"The {part} cannot be loaded ({reason})"
        if isinstance(error, OSError) and error.errno == errno.EACCES:
            do = "mend the file's permissions"
        elif isinstance(error, ImportError):
            do = "install what is named, or choose another option"
        elif "attn_implementation" in whole:
            do = "set model.attention=eager"
        elif "trust_remote_code" in whole:
            do = "read the Python files that come with it; if you trust them, set model.trust_remote_code=true"
        elif any(sign in whole for sign in ("model_type", "architecture", "Unrecognized")):
            do = "choose a model of this family, or a newer transformers that knows its architecture"
        else:
            do = "bring its files again, whole, or choose another model"
        raise InstructLabError(what, where=name, do=do) from error
