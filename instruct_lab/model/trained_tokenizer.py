"""A tokenizer that is trained on the run's own data."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.model.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from instruct_lab.model.weights.base import Weights

NUM_BYTES = 256
MISFIT = "A tokenizer that is trained anew does not fit weights that were trained with another"
TRAINING = 1
"""Raised when the training changes, so that tokenizers of an earlier one are not taken from the cache."""


def training_reason(model: Any) -> str | None:
    """Why a model's tokenizer cannot be trained; none where it can, or is not to be."""
    tokenizer = getattr(model, "tokenizer", None)
    if not isinstance(tokenizer, TrainedTokenizer):
        return None
    from instruct_lab.model.weights._random import special_tokens_of
    from instruct_lab.model.weights.base import Random

    if not isinstance(model.weights, Random):
        return MISFIT
    least = NUM_BYTES + len(special_tokens_of(model.family))
    if tokenizer.vocab_size < least:
        return (
            f"vocab_size is too small: bytes and special tokens of the family {model.family} alone are {least} pieces"
        )
    return None


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
            InstructLabError: the weights are not random, there is no text, or the disk does not take the tokenizer.
        """
        from instruct_lab.model.weights.base import Random

        if not isinstance(weights, Random):
            raise InstructLabError(MISFIT, where="model.tokenizer", do="choose tokenizer=own, or random weights")
        if texts is None:
            raise InstructLabError(
                "The tokenizer is trained on the run's data, and there is none here",
                where="model.tokenizer",
                do="choose tokenizer=own",
            )
        return self.prepare(self._kept(texts, family, cache_path))

    def _kept(self, texts: Callable[[], Iterable[str]], family: str, cache_path: Path) -> PreTrainedTokenizerBase:
        """From the cache, or trained and put there."""
        from transformers import PreTrainedTokenizerFast

        from instruct_lab.model.weights._cache import made_once
        from instruct_lab.model.weights._loading import named, quiet

        digest, found = self._digest(texts, family)
        if not found:
            raise InstructLabError(
                "There is no text to train a tokenizer on", where="model.tokenizer", do="look at data.train"
            )

        def make(folder: Path) -> None:
            self._trained(_plain(texts()), family).save_pretrained(folder)

        with _told(cache_path):
            folder = made_once(cache_path / "tokenizers" / digest, make)
        with quiet():
            return named(PreTrainedTokenizerFast.from_pretrained(folder), "")

    def _digest(self, texts: Callable[[], Iterable[str]], family: str) -> tuple[str, bool]:
        """SHA-256 of everything that the training depends on, and whether there is any text."""
        import tokenizers

        settings = [self.algorithm, self.vocab_size, self.min_frequency, family, tokenizers.__version__, TRAINING]
        digest, found = hashlib.sha256(json.dumps(settings).encode()), False
        for text in _plain(texts()):
            digest.update(hashlib.sha256(text.encode()).digest())
            found = found or bool(text)
        return digest.hexdigest(), found

    def _trained(self, texts: Iterable[str], family: str) -> PreTrainedTokenizerBase:
        from tokenizers import Tokenizer as Backend
        from tokenizers import models, pre_tokenizers, trainers

        from instruct_lab.model.weights._random import finished, special_tokens_of

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
        if self.algorithm == "unigram":
            backend.model = _in_order(backend, special)
        return finished(backend, family)


def _in_order(backend: Any, special: tuple[str, ...]) -> Any:
    """A trained Unigram model that is the same in every process.

    The library sums in the order of a hash table that is seeded anew each time, so that likelihoods differ in their
    last digits and pieces of one likelihood change places. And it gives letters that no piece needs the lowest score of
    all, plus 0.0001 for each in that order; here they share the lowest.
    """
    from tokenizers import models

    vocabulary = json.loads(backend.to_str())["model"]["vocab"]
    scores = {piece: round(score, 6) for piece, score in vocabulary if piece not in special}
    lowest = min(scores.values())
    for piece, score in scores.items():
        if len(piece) == 1 and score < lowest + NUM_BYTES * 1e-4:
            scores[piece] = lowest
    ranked = sorted(scores, key=lambda piece: (-scores[piece], piece))
    return models.Unigram([*((token, 0.0) for token in special), *((piece, scores[piece]) for piece in ranked)])


def _plain(texts: Iterable[str]) -> Iterator[str]:
    """Texts without halves of surrogate pairs, which UTF-8 cannot say."""
    for text in texts:
        yield text.encode("utf-8", "replace").decode()


@contextlib.contextmanager
def _told(cache_path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InstructLabError(
            f"The trained tokenizer cannot be kept ({error.strerror or error})",
            where=str(cache_path),
            do="free some space, mend the folder's permissions, or choose another cache_path",
        ) from error
