"""A tokenizer that is trained on the run's own data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Refusal, wrap_errors
from instruct_lab.model.byte_tokenizer import special_tokens_of, wrap_backend
from instruct_lab.model.tokenizer import Tokenizer
from instruct_lab.model.weights.base import Weights
from instruct_lab.model.weights.kept_folders import make_once
from instruct_lab.model.weights.library_calls import without_progress_bars
from instruct_lab.model.weights.tokenizers import rename_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NUM_BYTES = 256
TRAINING = 1
"""Version of the training procedure; it increases with every change, so that older cached tokenizers are not used."""


@component
class TrainedTokenizer(Tokenizer):
    """A tokenizer trained on the texts of the training split, for models with random weights.

    The tokenizer is byte-level, so it encodes every text and decodes it exactly. The same texts and settings give the
    same vocabulary, which is cached under their SHA-256. The special tokens, and a decoder's chat template, are the
    same as in the untrained byte-level tokenizer of random weights. Sources: Sennrich et al., 2016 (BPE); Kudo, 2018
    (Unigram).
    """

    algorithm: Literal["bpe", "unigram"] = "bpe"  # algorithm that learns the vocabulary
    vocab_size: Annotated[int, Field(ge=300)] = 4000  # size of the vocabulary, with the 256 bytes and special tokens
    min_frequency: Annotated[int, Field(ge=1)] = 2  # bpe: minimum number of occurrences of a pair that is merged

    def __post_init__(self) -> None:
        """Refuse a `source`, which names another tokenizer, and a `min_frequency` that `unigram` would ignore."""
        super().__post_init__()
        if self.source is not None:
            raise Refusal("source", "names another tokenizer, and this one is trained", "null")
        if self.algorithm == "unigram" and self.min_frequency != 2:
            raise Refusal("min_frequency", "belongs to bpe, and algorithm is unigram", "2")

    def misfit(self, weights: Weights, family: str) -> str | None:
        """Return the reason why the tokenizer does not fit, or `None` if it fits.

        It does not fit pretrained weights, nor a `vocab_size` that is too small for the bytes and the family's special
        tokens.
        """
        if not weights.is_random:
            return "A tokenizer that is trained now does not fit weights that were trained with another"
        least = NUM_BYTES + len(special_tokens_of(family))
        if self.vocab_size < least:
            return f"vocab_size is too small: the bytes and special tokens of the family {family} are {least} pieces"
        return None

    def load(
        self,
        weights: Weights,
        cache_path: Path,
        trust_remote_code: bool,
        family: str = "decoder",
        texts: Callable[[], Iterable[str]] | None = None,
    ) -> PreTrainedTokenizerBase:
        """Train the tokenizer, or load it from the cache, and apply the settings.

        Args:
            weights: the weights of the model, which have to be random.
            cache_path: folder for downloads and conversions, in which the trained tokenizer is kept.
            trust_remote_code: not used.
            family: the family of the model: `decoder`, `encoder-decoder` or `encoder`.
            texts: function that returns the texts of the run's training data.

        Raises:
            InstructLabError: the weights are not random, there is no text, or the tokenizer cannot be written.
        """
        if reason := self.misfit(weights, family):
            raise InstructLabError(reason, where="model.tokenizer", do="choose tokenizer=own, or random weights")
        if texts is None:
            raise InstructLabError(
                "The tokenizer is trained on the run's data, and there is none here",
                where="model.tokenizer",
                do="choose tokenizer=own",
            )
        return self.prepare(self._trained_once(texts, family, cache_path))

    def _trained_once(
        self, texts: Callable[[], Iterable[str]], family: str, cache_path: Path
    ) -> PreTrainedTokenizerBase:
        """Load the trained tokenizer from the cache; if it is not there, first train it and write it to the cache."""
        from transformers import PreTrainedTokenizerFast

        digest, has_text = self._digest(texts, family)
        if not has_text:
            raise InstructLabError(
                "There is no text to train a tokenizer on", where="model.tokenizer", do="look at data.train"
            )
        with wrap_errors(
            OSError,
            what="The trained tokenizer cannot be kept",
            where=str(cache_path),
            do="free some space, correct the folder's permissions, or choose another cache_path",
        ):
            folder = make_once(
                cache_path / "tokenizers" / digest,
                lambda target: self._train(_valid_texts(texts()), family).save_pretrained(target),
            )
        with without_progress_bars():
            tokenizer: PreTrainedTokenizerBase = rename_tokenizer(PreTrainedTokenizerFast.from_pretrained(folder), "")
        return tokenizer

    def _digest(self, texts: Callable[[], Iterable[str]], family: str) -> tuple[str, bool]:
        """Return the SHA-256 of the settings and the texts, and whether there is any text."""
        import tokenizers

        settings = [self.algorithm, self.vocab_size, self.min_frequency, family, tokenizers.__version__, TRAINING]
        digest, has_text = hashlib.sha256(json.dumps(settings).encode()), False
        for text in _valid_texts(texts()):
            digest.update(hashlib.sha256(text.encode()).digest())
            has_text = has_text or bool(text)
        return digest.hexdigest(), has_text

    def _train(self, texts: Iterable[str], family: str) -> Any:
        from tokenizers import Tokenizer as Backend
        from tokenizers import models, pre_tokenizers, trainers

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
            backend.model = _reproducible_unigram(backend, special)
        return wrap_backend(backend, family)


def _reproducible_unigram(backend: Any, special: tuple[str, ...]) -> Any:
    """Return the trained Unigram model, with scores and an order that are the same in every process.

    The `tokenizers` library adds numbers in the order of a hash table with a random seed, so the last digits of scores
    and the order of tokens with equal scores differ between processes. This function rounds the scores and sorts the
    tokens. The library also gives different scores, in steps of 0.0001 above the lowest one, to the tokens of
    bytes that occur in no text. This function gives all of them the lowest score.
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


def _valid_texts(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts, in which `?` replaces each unpaired surrogate, a character that UTF-8 cannot encode."""
    for text in texts:
        yield text.encode("utf-8", "replace").decode()
