"""A tokenizer that is trained on the run's own data."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.model.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from instruct_lab.model.weights import Weights


@component
class TrainedTokenizer(Tokenizer):
    """A vocabulary learned from the texts of the training split, for models that start from random weights.

    Byte-level, so that nothing is unknown and every text comes back to the letter. The same texts and settings give the
    same vocabulary; it is kept in the cache under their SHA-256. Special tokens and chat template are those that a
    random model of the family has. Sources: Sennrich et al., 2016 (BPE); Kudo, 2018 (Unigram).
    """

    algorithm: Literal["bpe", "unigram"] = "bpe"  # which pieces: merged pairs, or the likeliest set
    vocab_size: Annotated[int, Field(ge=300)] = 4000  # pieces, the 256 bytes and special tokens among them
    min_frequency: Annotated[int, Field(ge=1)] = 2  # bpe: how often a pair has to stand in the texts

    def __post_init__(self) -> None:
        """Refuse another tokenizer's repository beside it."""
        super().__post_init__()
        if self.source is not None:
            raise Refusal("source", "names another tokenizer, and this one is trained", "null")
        if self.algorithm == "unigram" and self.min_frequency != 2:
            raise Refusal("min_frequency", "is of bpe, and algorithm is unigram", "2")

    def load(
        self,
        weights: Weights,
        cache_path: Path,
        trust_remote_code: bool,
        family: str = "decoder",
        texts: Callable[[], Iterable[str]] | None = None,
    ) -> PreTrainedTokenizerBase:
        """The trained tokenizer; see `Tokenizer.load`.

        Raises:
            InstructLabError: the weights are not random, or there is no text.
        """
        from instruct_lab.model.weights import Random

        if not isinstance(weights, Random):
            raise InstructLabError(
                "A tokenizer that is trained anew does not fit weights that were trained with another",
                where="model.tokenizer",
                do="choose tokenizer=own, or a model with random weights",
            )
        if texts is None:
            raise InstructLabError(
                "The tokenizer is trained on the run's data, and there is none here",
                where="model.tokenizer",
                do="choose tokenizer=own",
            )
        found = list(texts())
        if not any(found):
            raise InstructLabError("There is no text to train a tokenizer on", where="model.tokenizer", do="see data")
        return self.prepare(self._kept(found, family, cache_path))

    def _kept(self, texts: list[str], family: str, cache_path: Path) -> PreTrainedTokenizerBase:
        """From the cache, or trained and put there."""
        import tokenizers
        from filelock import FileLock
        from transformers import PreTrainedTokenizerFast

        settings = [self.algorithm, self.vocab_size, self.min_frequency, family, tokenizers.__version__]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for text in texts:
            digest.update(hashlib.sha256(text.encode("utf-8", "replace")).digest())
        folder = cache_path / "tokenizers" / digest.hexdigest()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
                shutil.rmtree(partial, ignore_errors=True)
                self._trained(texts, family).save_pretrained(partial)
                partial.rename(folder)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        tokenizer.name_or_path = ""
        return tokenizer

    def _trained(self, texts: list[str], family: str) -> PreTrainedTokenizerBase:
        from tokenizers import Tokenizer as Backend
        from tokenizers import models, pre_tokenizers, trainers

        from instruct_lab.model._random import finished, special_tokens_of

        special = special_tokens_of(family)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        common: dict[str, Any] = {"vocab_size": self.vocab_size, "initial_alphabet": alphabet, "show_progress": False}
        if self.algorithm == "bpe":
            backend = Backend(models.BPE())
            trainer: Any = trainers.BpeTrainer(**common, min_frequency=self.min_frequency, special_tokens=list(special))
        else:
            backend = Backend(models.Unigram())
            trainer = trainers.UnigramTrainer(**common, special_tokens=list(special))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        backend.train_from_iterator(texts, trainer)
        return finished(backend, family)
