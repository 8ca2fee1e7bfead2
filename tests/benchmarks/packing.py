"""Positions that a model computes for each real token, and seconds of a training step: padded against packed rows.

Lengths of examples: `medium` are those of instructions with an answer of a paragraph, `ragged` those of a mixture of
short and long texts (log-normal). The model is a random Llama of a few million parameters; both ways train on the same
batches, alternately, and their losses are compared. Argument: the number of steps (20).
"""

import dataclasses
import statistics
import sys
import time

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from instruct_lab.batching import Example, Packed, Padded
from instruct_lab.objective import Supervised

VOCABULARY = 2000
WAYS = {
    "padded, similar lengths": Padded(),
    "padded, random order": Padded(group_by_length=False),
    "packed, similar lengths": Packed(),
    "packed, random order": Packed(group_by_length=False),
    "packed, rows of 2,048": Packed(row_tokens=2048, batch_size=32),
}


def lengths_of(kind: str, count: int) -> list[int]:
    """Draw the numbers of tokens of examples."""
    source = np.random.default_rng(0)
    drawn = source.normal(190, 45, count) if kind == "medium" else source.lognormal(4.6, 0.9, count)
    return [int(length) for length in drawn.clip(8, 1024)]


def examples_of(kind: str, count: int) -> list[Example]:
    """Make examples of random tokens; the second half of each is trained."""
    source = np.random.default_rng(1)
    examples = []
    for number, length in enumerate(lengths_of(kind, count)):
        ids = source.integers(3, VOCABULARY, length).tolist()
        examples.append(Example(ids, [-100] * (length // 2) + ids[length // 2 :], str(number)))
    return examples


def model() -> LlamaForCausalLM:
    """Build a random model."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4,
    )  # fmt: skip
    return LlamaForCausalLM._from_config(config, attn_implementation="sdpa").train()


@dataclasses.dataclass
class Course:
    """Positions, seconds and losses of the steps of one way."""

    positions: int = 0
    tokens: int = 0
    seconds: list[float] = dataclasses.field(default_factory=list)
    losses: list[float] = dataclasses.field(default_factory=list)


def measure(kind: str, steps: int) -> None:
    """Train with every way, alternately, and print what each step cost."""
    examples = examples_of(kind, 1024)
    loaders = {name: iter(way.loader(examples, seed=0, pad_token_id=0)) for name, way in WAYS.items()}
    models = {name: model() for name in WAYS}
    optimizers = {name: torch.optim.AdamW(one.parameters(), lr=1e-4) for name, one in models.items()}
    courses = {name: Course() for name in WAYS}
    for name, one in models.items():

        def count(module, arguments, course=courses[name]):
            course.positions += arguments[0].numel()

        one.get_input_embeddings().register_forward_pre_hook(count)
    for _ in range(steps):
        for name, loader in loaders.items():
            batch, course = next(loader), courses[name]
            started = time.process_time()
            loss = Supervised().loss(models[name], batch)
            value = loss.sums.sum() / loss.counts.sum()
            value.backward()
            optimizers[name].step()
            optimizers[name].zero_grad()
            course.seconds.append((time.process_time() - started) / int(batch.attention_mask.sum()))
            course.tokens += int(batch.attention_mask.sum())
            course.losses.append(float(value.detach()))
    for name, course in courses.items():
        milliseconds = 1000 * statistics.median(course.seconds)
        print(f"{kind}, {name}: {course.positions / course.tokens:.3f} positions and {milliseconds:.3f} ms for a token")
    for order in ("similar lengths", "random order"):
        both = zip(courses[f"padded, {order}"].losses, courses[f"packed, {order}"].losses, strict=True)
        print(f"{kind}, {order}: losses differ by at most {max(abs(a - b) / a for a, b in both):.1e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for kind in ("medium", "ragged"):
        measure(kind, int(sys.argv[1]) if len(sys.argv) > 1 else 20)
