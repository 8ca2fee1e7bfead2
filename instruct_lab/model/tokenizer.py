"""The component that loads a model's tokenizer, adds new tokens, and chooses its pad token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import InstructLabError, Problem, Refusal
from instruct_lab.files import user_path
from instruct_lab.model.weights.base import Weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from instruct_lab.assets import Input

Token = Annotated[str, Field(min_length=1)]
RESERVED_FOR_PADDING = (
    "<|finetune_right_pad_id|>",
    "<|pad|>",
    "<pad>",
    "[PAD]",
    "<PAD>",
    "<|padding|>",
    "<|PAD_TOKEN|>",
)
"""Tokens that vocabularies reserve for padding, sometimes without declaring them as pad tokens."""


@component
class Tokenizer(Component):
    """Changes to a model's tokenizer.

    Padding is recognised by the length of each text, not by the pad token, so the pad token may also be the token that
    ends a turn. For a tokenizer without a pad token, the first of these that exists is chosen: a token that the
    vocabulary reserves for padding, the unknown token, the end-of-sequence token. This adds no token to the vocabulary.
    """

    fields_about: ClassVar = {"revision": ("source",)}

    source: Token | None = None  # folder or Hub repository of another tokenizer; null: the weights' own tokenizer
    revision: Token | None = None  # commit, tag or branch of that repository; null: its main branch
    pad_token: Token | None = None  # token that pads shorter examples, added if it is new; null: chosen as above
    extra_tokens: list[Token] = Field(default_factory=list)  # new tokens that are recognised in any text
    extra_special_tokens: list[Token] = Field(default_factory=list)  # new control tokens; not recognised in content

    def __post_init__(self) -> None:
        """Refuse a token that is in both `extra_tokens` and `extra_special_tokens`, and `revision` without `source`."""
        both = set(self.extra_tokens) & set(self.extra_special_tokens)
        if both:
            raise Refusal("extra_tokens", f"{sorted(both)[0]!r} is also one of extra_special_tokens")
        if self.revision is not None and self.source is None:
            raise Refusal("revision", "belongs to source, and source is null")

    def problems(self) -> Iterator[Problem]:
        """Report a source that looks like the path of a folder but does not exist."""
        if self.source is None or user_path(self.source).is_dir():
            return
        if self.source.startswith((".", "/", "~")) or self.source.count("/") > 1:
            yield Problem(key="source", value=self.source, reason="there is no such folder")

    def misfit(self, weights: Weights, family: str) -> str | None:
        """Return the reason why this tokenizer does not fit the weights and the family, or `None` if it fits.

        In this class, every tokenizer fits.
        """
        return None

    def load(
        self,
        weights: Weights,
        cache_path: Path,
        trust_remote_code: bool,
        family: str = "decoder",
        texts: Callable[[], Iterable[str]] | None = None,
    ) -> PreTrainedTokenizerBase:
        """Load the tokenizer of the weights, or of `source`, and apply the settings.

        Args:
            weights: the weights of the model.
            cache_path: folder for downloads and conversions.
            trust_remote_code: whether Python files that come with the tokenizer are run.
            family: the family of the model: `decoder`, `encoder-decoder` or `encoder`.
            texts: function that returns the texts of the run's training data; used only by a subclass that trains a
                tokenizer.
        """
        return self.prepare(self._source(weights).load_tokenizer(cache_path, trust_remote_code, family))

    def inputs(self, weights: Weights, cache_path: Path) -> list[Input]:
        """Return the tokenizer's files that lie in the user's own folders, and may therefore change between runs."""
        return self._source(weights).tokenizer_inputs(cache_path)

    def _source(self, weights: Weights) -> Weights:
        """Return where the tokenizer comes from: the folder or Hub repository `source`; if it is not set, `weights`."""
        from instruct_lab.model.weights import Hub, LocalFolder

        if self.source is None:
            return weights
        if user_path(self.source).is_dir():
            return LocalFolder(path=self.source)
        return Hub(repository=self.source, revision=self.revision or "main")

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
        """Add the new tokens and choose the pad token.

        The tokenizer's attribute `added_token_ids` is set to the ids of tokens that are new to the vocabulary.

        Raises:
            InstructLabError: the tokenizer has no token that can be used for padding, or decodes a new token to another
                text.
        """
        before = tokenizer.get_vocab()
        tokenizer.add_tokens(self.extra_tokens)
        tokenizer.add_tokens(self.extra_special_tokens, special_tokens=True)
        if self.pad_token is not None:
            tokenizer.add_special_tokens({"pad_token": self.pad_token})
        elif tokenizer.pad_token_id is None:
            tokenizer.pad_token = self._pad_token(tokenizer, before)
        self._check_spelling(tokenizer)
        after = tokenizer.get_vocab()
        known = set(before.values())
        tokenizer.added_token_ids = sorted({number for number in after.values() if number not in known})
        return tokenizer

    def _check_spelling(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse a new token that the tokenizer would decode to another text.

        For example, byte-level tokenizers use letters such as `ï` to stand for a byte.
        """
        for token in (*self.extra_tokens, *self.extra_special_tokens):
            decoded = str(tokenizer.decode(tokenizer.convert_tokens_to_ids([token])))
            if decoded.strip() != token.strip():
                raise InstructLabError(
                    f"The tokenizer would decode the new token {token!r} as {decoded!r}",
                    where="model.tokenizer.extra_tokens",
                    do="spell it in ASCII",
                )

    def _pad_token(self, tokenizer: PreTrainedTokenizerBase, vocabulary: dict[str, int]) -> str:
        reserved = [token for token in RESERVED_FOR_PADDING if token in vocabulary]
        for token in (*reserved, tokenizer.unk_token, tokenizer.eos_token):
            if token is not None:
                return str(token)
        raise InstructLabError(
            "The tokenizer has no pad, unknown or end-of-sequence token, so none can pad",
            where="model.tokenizer.pad_token",
            do="name one of its tokens, or a new one such as <|pad|>",
        )
