"""A model in memory, with the interface that lm-evaluation-harness calls."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lm_eval.api import task as tasks
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM

from instruct_lab.generation.decoding import evaluation_mode, has_prefix_before_padding
from instruct_lab.model import LoadedModel
from instruct_lab.progress import advance
from instruct_lab.template import Template


class _Progress(CacheHook):
    """A replacement for the cache in which lm-evaluation-harness stores responses.

    It stores nothing, but counts each response in the progress report.
    """

    def __init__(self) -> None:
        super().__init__(None)

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """Count one more answered request in the progress report."""
        advance()


class LoadedLM(HFLM):
    """A loaded model with the template of its run, in a class that lm-evaluation-harness can use.

    Its base class, which belongs to the library, computes the responses. This package shows the progress, instead of
    the library's progress bar. A model with virtual tokens before the text (prefix or prompt tuning) always computes
    one request at a time, because a batch would have padding between these tokens and the text.

    Args:
        loaded: the model.
        template: the template of the run.
        batch_size: number of requests computed at once.
    """

    def __init__(self, loaded: LoadedModel, template: Template, batch_size: int) -> None:
        tokenizer = copy.deepcopy(loaded.tokenizer)
        jinja = template.as_jinja(tokenizer)
        if jinja is not None:
            tokenizer.chat_template = jinja
        if has_prefix_before_padding(loaded.model):
            batch_size = 1
        super().__init__(pretrained=loaded.model, tokenizer=tokenizer, batch_size=batch_size)
        self.set_cache_hook(_Progress())

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
        """Compute the log-likelihoods of continuations, without the library's progress bar."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> Any:
        """Compute the log-likelihoods of whole texts, without the library's progress bar."""
        return super().loglikelihood_rolling(requests, disable_tqdm=True)

    def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:
        """Generate answers, without the library's progress bar."""
        return super().generate_until(requests, disable_tqdm=True)


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Suppress the library's progress bar while it builds the prompts of a task."""
    usual, tasks.tqdm = tasks.tqdm, lambda items, **settings: items
    try:
        yield
    finally:
        tasks.tqdm = usual


@contextlib.contextmanager
def decoding_as_exported(loaded: LoadedModel, template: Template) -> Iterator[None]:
    """Let the model's `generate` end an answer at the tokens at which the exported model ends it.

    The length of answers is limited only by the task's own setting. While the block runs, the model is in evaluation
    mode and no gradients are computed. At the end, the model's mode, its generation config and the random states are
    restored.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    config = copy.deepcopy(model.generation_config)
    config.eos_token_id = template.stop_token_ids(tokenizer)
    config.pad_token_id, config.bos_token_id = tokenizer.pad_token_id, tokenizer.bos_token_id
    config.max_new_tokens = None
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(), evaluation_mode(model):
        model.generation_config = config
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
