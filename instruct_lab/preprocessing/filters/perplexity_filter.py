"""Filtering by the perplexity of texts under a language model."""

from __future__ import annotations

import hashlib
import itertools
import math
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from instruct_lab.assets import file_sha256
from instruct_lab.batch_limits import compute_in_parts
from instruct_lab.config import component
from instruct_lab.data import Conversation
from instruct_lab.errors import Problem, Refusal, wrap_errors
from instruct_lab.files import user_path
from instruct_lab.memory import check_memory
from instruct_lab.preprocessing.base import Context, Need, Part, Splits, Step, part_text, train_only

Name = Annotated[str, Field(min_length=1)]
Bound = Annotated[float, Field(ge=1)] | None
WINDOW_ROWS = 256
"""Number of rows that are sorted by length together, so that a batch has texts of similar length."""
MAX_LOGITS = 1 << 24
"""Maximum number of logits that are converted to float32 at once while a loss is computed."""
CHARACTERS_PER_TOKEN = 32
"""A text is cut to `max_tokens` times this number of characters before it is encoded."""
MAX_EXPONENT = 700
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Scored(NamedTuple):
    """The token ids of a context followed by a text, and the number of ids at the start that are not scored.

    These are the ids of the context; without a context, the first id is not scored, since nothing precedes it.
    """

    ids: list[int]
    num_context: int


@component
class PerplexityFilter(Step):
    """Drops conversations whose perplexity under a language model is too high or too low.

    Perplexity is exp of the mean negative log-likelihood of a text's tokens, computed in float32. The first token is
    predicted from the beginning-of-text token, or the end-of-text token if there is none; if the tokenizer has neither,
    the first token is not scored. Very high values suggest noise, very low values repetition or memorised text. Read
    the quantiles in the audit before you set `min_perplexity` or `max_perplexity`. This is usually the slowest step,
    because the model computes the probabilities of up to `max_tokens` tokens of every text (except texts of fewer than
    `min_tokens`, which are kept). Pickled weights are refused, and Python files that come with the model are not run.
    Source: CCNet (Wenzek et al., 2020).
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"data"})

    splits: Splits = Field(default_factory=train_only)  # splits that the step processes
    model: Name  # folder or Hub repository of a causal language model, in safetensors, with its tokenizer
    revision: Name | None = None  # commit, tag or branch of that repository; null: its main branch
    of: Part = "conversation"  # the part that is scored
    given_prompt: bool = False  # with of=answer: the prompt precedes it as context and is not scored
    min_perplexity: Bound = None  # lowest perplexity that is kept; null: no bound
    max_perplexity: Bound = None  # highest perplexity that is kept; null: no bound
    min_tokens: Annotated[int, Field(ge=1)] = 10  # texts with fewer tokens are kept
    max_tokens: Annotated[int, Field(ge=2)] = 512  # number of tokens at the start of a text that are scored
    batch_tokens: Annotated[int, Field(ge=1)] = 2048  # maximum number of tokens in a batch, with padding
    device: Name = "auto"  # cpu, cuda, cuda:1...; auto: a GPU if there is one
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # dtype of the model; the loss is in float32

    def __post_init__(self) -> None:
        """Refuse settings that would keep every row or drop every row, and fields that contradict each other."""
        if self.min_perplexity is None and self.max_perplexity is None:
            raise Refusal("max_perplexity", "every row would be kept: set min_perplexity, max_perplexity or both")
        if None not in (self.min_perplexity, self.max_perplexity) and self.min_perplexity > self.max_perplexity:  # type: ignore[operator]
            raise Refusal(
                "min_perplexity", f"is above max_perplexity ({self.max_perplexity}), so every row would be dropped"
            )
        if self.given_prompt and self.of != "answer":
            raise Refusal("given_prompt", f"needs of=answer, but of is {self.of}")
        if self.revision is not None and self._folder() is not None:
            raise Refusal("revision", "applies to a Hub repository, but model is a folder")

    def problems(self) -> Iterator[Problem]:
        """Report a `model` that looks like a path but is not a folder, or a folder without a model in it."""
        folder = self._folder()
        if folder is not None and not (folder / "config.json").is_file():
            yield Problem(key="model", value=self.model, reason="the folder has no config.json, so it is not a model")
        elif folder is None and (self.model.startswith((".", "/", "~")) or self.model.count("/") > 1):
            yield Problem(key="model", value=self.model, reason="there is no such folder")

    def data_fingerprint(self, cache_path: Path) -> str:
        """Return a hash of the files in the model's folder or, for a Hub repository, its name and revision."""
        folder = self._folder()
        if folder is None:
            return f"{self.model}@{self.revision or 'main'}"
        digest = hashlib.sha256()
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = bytes.fromhex(file_sha256(file))
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + content)
        return digest.hexdigest()

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the conversations whose perplexity is from `min_perplexity` to `max_perplexity`.

        The audit counts the dropped ones. Conversations of fewer than `min_tokens` tokens are yielded too, and the
        audit reports them.

        Raises:
            InstructLabError: the model cannot be loaded.
        """
        if not len(conversations):
            return
        scorer = self._scorer()
        values = array("d")
        rows = iter(conversations)
        while window := list(itertools.islice(rows, WINDOW_ROWS)):
            pairs = [(self._context(row), part_text(row, self.of)) for row in window]
            for row, perplexity in zip(window, scorer.perplexities(pairs, self.min_tokens), strict=True):
                if perplexity is None:
                    context.audit.record(context.stage, "reported", f"{self.of} under {self.min_tokens} tokens", row)
                elif reason := self._outside(perplexity):
                    context.count_dropped(reason, row)
                    values.append(perplexity)
                    continue
                else:
                    values.append(perplexity)
                yield row
        context.audit.note(context.stage, perplexity=_quantiles(values))

    def _context(self, row: Conversation) -> str:
        return part_text(row, "prompt") + "\n" if self.given_prompt else ""

    def _outside(self, perplexity: float) -> str | None:
        if math.isnan(perplexity):
            return f"{self.of} whose perplexity is not a number"
        if self.min_perplexity is not None and perplexity < self.min_perplexity:
            return f"{self.of} under perplexity {self.min_perplexity:g}"
        if self.max_perplexity is not None and perplexity > self.max_perplexity:
            return f"{self.of} over perplexity {self.max_perplexity:g}"
        return None

    def _folder(self) -> Path | None:
        folder = user_path(self.model)
        return folder if folder.is_dir() else None

    def _scorer(self) -> Scorer:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        name, revision = str(self._folder() or self.model), self.revision or "main"
        device = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        dtype = getattr(torch, self.dtype)
        where = f"model {self.model!r}, revision {revision!r}, device {device!r}"
        with wrap_errors(
            *(OSError, ValueError, ImportError, KeyError, RuntimeError, AssertionError),
            what="The model for perplexity cannot be loaded",
            where=where,
            do="use a folder or a readable Hub repository with a causal model in safetensors and its tokenizer",
        ):
            tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
            config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
            check_memory(config, AutoModelForCausalLM, dtype.itemsize, where)
            model = AutoModelForCausalLM.from_pretrained(
                name,
                config=config,
                revision=revision,
                dtype=dtype,
                use_safetensors=True,  # the pickled weights of a stranger can run code when they are read
                trust_remote_code=False,
            )
            model = model.to(device).eval()
        return Scorer(model, tokenizer, self.max_tokens, self.batch_tokens)


class Scorer:
    """Computes perplexities of texts with a model and its tokenizer.

    Args:
        model: a causal language model.
        tokenizer: the model's tokenizer.
        max_tokens: maximum number of tokens of a text and its context; reduced if the model supports fewer positions.
        batch_tokens: maximum number of tokens in a batch, with padding.
    """

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int, batch_tokens: int) -> None:
        self.model, self.tokenizer, self.batch_tokens = model, tokenizer, batch_tokens
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self.start: list[int] = [] if start is None else [start]
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or max_tokens + 1
        self.max_tokens = min(max_tokens, positions - len(self.start))

    def perplexities(self, pairs: list[tuple[str, str]], min_tokens: int) -> list[float | None]:
        """Compute the perplexity of texts.

        Args:
            pairs: for each text, the context that precedes it but is not scored (empty for none), and the text.
            min_tokens: minimum number of scored tokens; the result is `None` for texts with fewer.
        """
        contexts = self._ids([context for context, _ in pairs], last=True)
        texts = self._ids([text for _, text in pairs])
        scored = [self._fit(*ids) for ids in zip(contexts, texts, strict=True)]
        enough = [index for index, row in enumerate(scored) if len(row.ids) - row.num_context >= max(1, min_tokens)]
        values: list[float | None] = [None] * len(pairs)
        enough.sort(key=lambda index: -len(scored[index].ids))
        while enough:
            size = max(1, self.batch_tokens // len(scored[enough[0]].ids))
            batch, enough = enough[:size], enough[size:]
            rows = [scored[index] for index in batch]
            found = itertools.chain(*compute_in_parts("perplexities", rows, self._batch, _num_positions))
            for index, value in zip(batch, found, strict=True):
                values[index] = value
        return values

    def _ids(self, texts: list[str], last: bool = False) -> list[list[int]]:
        most = CHARACTERS_PER_TOKEN * self.max_tokens
        cut = [text[-most:] if last else text[:most] for text in texts]
        encoded = self.tokenizer(cut, add_special_tokens=False, split_special_tokens=True, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _fit(self, context: list[int], text: list[int]) -> Scored:
        """Cut a context and a text to at most `max_tokens` tokens together, and put the start token, if any, first.

        Of the context, the last tokens are kept: as many as the text leaves free, but at least half of `max_tokens`. If
        context and text together are still too long, the end of the text is cut.
        """
        text = text[: self.max_tokens]
        space = max(self.max_tokens - len(text), self.max_tokens // 2)
        context = self.start + context[len(context) - min(len(context), space) :]
        ids = (context + text)[: len(self.start) + self.max_tokens]
        return Scored(ids, max(1, len(context)))

    def _batch(self, rows: Sequence[Scored]) -> list[float]:
        import torch

        longest = len(rows[0].ids)
        device = self.model.device
        ids = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows], device=device)  # [batch, seq]
        mask = torch.tensor([[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows], device=device)
        with torch.inference_mode():
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits  # [batch, seq, vocabulary]
            return [self._perplexity(logits[row], ids[row], *span) for row, span in enumerate(map(_span, rows))]

    def _perplexity(self, logits: Any, ids: Any, first: int, end: int) -> float:
        from torch.nn.functional import cross_entropy

        step = max(1, MAX_LOGITS // logits.shape[-1])
        total = 0.0
        for start in range(first, end, step):
            stop = min(start + step, end)
            total += float(cross_entropy(logits[start - 1 : stop - 1].float(), ids[start:stop], reduction="sum"))
        mean = total / (end - first)
        return math.exp(mean) if mean < MAX_EXPONENT or math.isnan(mean) else math.inf


def _num_positions(rows: Sequence[Scored]) -> int:
    """Return the number of tokens of a batch if every row is padded to the length of the first row, the longest."""
    return len(rows) * len(rows[0].ids)


def _span(row: Scored) -> tuple[int, int]:
    """Return the index of a row's first scored token, and the index after the last one."""
    return row.num_context, len(row.ids)


def _quantiles(perplexities: array[float]) -> dict[str, float | str]:
    """Compute quantiles of the perplexities, keyed by percentage, such as `50%`.

    NaN is ignored. Infinity is returned as the text `inf`, since JSON has no number for it. The result is empty if no
    perplexity was measured.
    """
    values = sorted(value for value in perplexities if not math.isnan(value))
    if not values:
        return {}
    quantiles = {f"{100 * share:g}%": values[int(share * (len(values) - 1))] for share in QUANTILES}
    return {name: value if math.isfinite(value) else "inf" for name, value in quantiles.items()}
