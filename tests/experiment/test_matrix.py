"""Every combination of family, objective, tuning method and batching trains if the matrix says so, and else does not.

Tiny models with random weights take three optimizer steps. For a combination that trains: the loss is finite, exactly
the parameters that the tuning method declares have changed, weights that are saved and loaded into a fresh model give
the same output, and a model that answers prompts still does. For a combination that is refused: without the check it
fails, or what it would train makes no sense.

Objectives of one kind differ only in the formula of their loss. Whenever the tests run, the first objective of a family
is tried with all methods, each objective with LoRA and full training, and one combination is tried for each reason of a
refusal; `pytest -m exhaustive` tries the others.
"""

import copy
import dataclasses
import functools
import random

import pytest
import torch

from instruct_lab.batching import IGNORED, Layout
from instruct_lab.config.options import options
from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.experiment.matrix import FAMILIES, combination_reason, component_of, matrix
from instruct_lab.generation import Generation
from instruct_lab.model import Decoder, Random
from instruct_lab.objective.log_probabilities import sequence_log_probabilities
from instruct_lab.template import ChatTemplate, Contents
from tests.support.exhaustive import exhaustive
from tests.support.small_methods import small_method

MODELS = {"decoder": "tiny_random", "encoder-decoder": "tiny_encoder_decoder", "encoder": "tiny_encoder"}
MODELS_WITH_BIASES = {**MODELS, "decoder": "with_biases", "encoder-decoder": "tiny_bart"}
STEPS = 3
COMBINATIONS = list(matrix())


def conversation(index):
    answer, other = f"The answer is {index * 7}.", f"No idea about {index}"
    question = f"What is {index} times 7?" + " Tell me." * index  # of several lengths
    messages = (Message("user", question), Message("assistant", answer))
    return Conversation(messages, str(index), rejected=(Message("assistant", other),))


ROWS = [conversation(index) for index in range(4)]


@functools.cache
def part(group, option):
    return component_of(group, option)


@functools.cache
def model_of(family, needs_biases):
    name = (MODELS_WITH_BIASES if needs_biases else MODELS)[family]
    if name != "with_biases":
        return part("model", name)
    settings = part("model", "tiny_random").weights.settings
    return Decoder(weights=Random(architecture="qwen2", settings={**settings, "num_key_value_heads": 2}))


@functools.cache
def tuning_of(option):
    return small_method(option)


@functools.cache
def tokenizer_of(family, cache):
    return part("model", MODELS[family]).load_tokenizer(cache)


@functools.cache
def loaded(family, needs_biases, head, cache):
    return model_of(family, needs_biases).load(tokenizer_of(family, cache), cache, head)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def objective_of(option, family):
    objective = part("objective", option)
    if hasattr(objective, "teacher"):  # the option's own is a real model
        other = part("model", MODELS[family])
        other = dataclasses.replace(other, weights=dataclasses.replace(other.weights, seed=1))
        objective = dataclasses.replace(objective, teacher=other)
    return objective


@functools.cache
def encoded(family, reads, batching, cache):
    tokenizer, layout = tokenizer_of(family, cache), Layout(reads, family)
    template = ChatTemplate() if family == "decoder" else Contents()
    return list(part("batching", batching).encode(ROWS, template, tokenizer, Audit(), "train", layout))


class Trial:
    """One combination on a model of its own."""

    def __init__(self, combination, cache):
        self.family, self.cache = combination.family, cache
        self.named_batching = combination.batching
        self.objective = objective_of(combination.objective, self.family)
        self.tuning = tuning_of(combination.tuning)
        self.batching = part("batching", combination.batching)
        self.tokenizer = tokenizer_of(self.family, cache)
        base = self.base()
        reference = self.reference(base.model) if self.objective.takes_reference_from_batch else None
        self.teacher = self.objective.load_teacher(self.tokenizer, cache, torch.device("cpu"))
        self.objective.check_tokenizer(self.tokenizer)
        self.batch = self.make_batch(reference)
        torch.manual_seed(0)
        self.tuned = self.tuning.apply(base)
        self.model = self.tuned.model

    def base(self):
        whole = loaded(self.family, self.tuning.needs_biases, self.objective.head, self.cache)
        return whole.with_model(copy.deepcopy(whole.model))

    def examples(self):
        rows = encoded(self.family, self.objective.reads, self.named_batching, self.cache)
        return [self.objective.corrupt(row, self.tokenizer, random.Random(row.id)) for row in rows]

    def make_batch(self, reference=None):
        examples = self.examples()
        if reference is not None:
            examples = [dataclasses.replace(e, reference=r) for e, r in zip(examples, reference, strict=True)]
        return self.batching.collate(examples, self.tokenizer.pad_token_id)

    def reference(self, base):
        with torch.no_grad():
            sums, _ = sequence_log_probabilities(base, self.make_batch())
        return [tuple(pair) for pair in sums.reshape(2, -1).T.tolist()]

    def train(self):
        """Take three steps; returns their losses."""
        self.model.train()
        trained = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW([p for _, p in trained], lr=0.02, weight_decay=0.0)
        losses = []
        for _ in range(STEPS):
            loss = self.objective.loss(self.model, self.batch, self.teacher)
            (loss.sums.sum() / loss.counts.sum()).backward()
            losses.append(float(loss.sums.sum() / loss.counts.sum()))
            optimizer.step()
            optimizer.zero_grad()
        return losses

    def losses(self, model):
        """The losses of a model on the batch, to compare two models."""
        model.eval()
        with torch.no_grad():
            torch.manual_seed(1)
            return self.objective.loss(model, self.batch, self.teacher).sums

    def answers(self, model, rows):
        layout = Layout(self.objective.reads, self.family)
        template = ChatTemplate() if self.family == "decoder" else Contents()
        prompts = self.batching.encode_prompts(rows, template, self.tokenizer, layout)
        stops = [self.tokenizer.eos_token_id]
        return Generation(max_new_tokens=3).generate_ids(model, prompts, stops, self.tokenizer.pad_token_id)


def states(model):
    return {name: value.detach().clone() for name, value in [*model.named_parameters(), *model.named_buffers()]}


def changed(before, model):
    return {name for name, value in states(model).items() if not torch.equal(before[name], value)}


def name_of(combination):
    return f"{combination.family}-{combination.objective}-{combination.tuning}-{combination.batching}"


OF_EACH_KIND = ("prompt_tuning", "ia3", "train_last_layers", "few_shot")
"""Methods that differ in kind; one objective of each kind is tried with them."""


def kind_of(option):
    """What the objectives of one kind have in common."""
    one = part("objective", option)
    what = (one.reads, one.head, one.takes_reference_from_batch, one.generates, tuple(sorted(one.families)))
    return *what, hasattr(one, "teacher")


FIRST_OF_KIND = {kind_of(one.name): one.name for one in reversed(list(options("objective")))}
PADDED = {(c.family, c.objective, c.tuning) for c in COMBINATIONS if c.trains and c.batching == "padded"}


REASONS = {c.reason: c for c in reversed(COMBINATIONS) if not c.trains}
"""The first combination that is refused for each reason."""


def is_tried(combination):
    """Whether a combination is tried at all: of packed rows each objective and each method that padded rows train."""
    c = combination
    once = c.tuning == "lora" or c.objective in ("supervised", "masked")
    return c.batching == "padded" or (once and (c.family, c.objective, c.tuning) in PADDED)


def is_chosen(combination):
    """Whether a combination is tried whenever the tests run."""
    c = combination
    is_first = c.objective == ("masked" if c.family == "encoder" else "supervised")
    if not c.trains:
        return c.tuning == "lora" or is_first or c == REASONS[c.reason]
    if c.batching != "padded":
        return c.tuning == "lora" or c.objective == "supervised"
    of_kind = c.objective in FIRST_OF_KIND.values() and c.tuning in OF_EACH_KIND
    return is_first or of_kind or c.tuning in ("lora", "full")


TRIED = [c for c in COMBINATIONS if is_tried(c)]
TRAINING = [c for c in TRIED if c.trains and part("tuning", c.tuning).trains]
UNTRAINED = [c for c in TRIED if c.trains and not part("tuning", c.tuning).trains]
REFUSED = [c for c in TRIED if not c.trains]


def cases(combinations):
    return [c if is_chosen(c) else exhaustive(c) for c in combinations]


def test_the_matrix_is_whole():
    axes = [len(list(options(group))) for group in ("objective", "tuning", "batching")]
    assert len(COMBINATIONS) == len(FAMILIES) * axes[0] * axes[1] * axes[2]


@pytest.mark.slow
@pytest.mark.parametrize("combination", cases(TRAINING), ids=name_of)
def test_a_combination_that_claims_to_train_trains(combination, cache, tmp_path):
    trial = Trial(combination, cache)
    declared = {name for name, parameter in trial.model.named_parameters() if parameter.requires_grad}
    before = states(trial.model)
    losses = trial.train()
    assert all(torch.isfinite(torch.tensor(losses))), losses
    assert declared
    assert changed(before, trial.model) == declared, "exactly what is declared has changed"
    after = trial.losses(trial.model)
    trial.tuning.save(trial.tuned, tmp_path / "saved")
    again = trial.tuning.load(trial.base(), tmp_path / "saved")
    torch.testing.assert_close(trial.losses(again.model), after, rtol=1e-5, atol=1e-5)
    used = again.model
    if trial.tuning.mergeable:
        used = trial.tuning.merge(again).model
        if trial.teacher is None and not (trial.objective.needs_reference and trial.batch.reference is None):
            torch.testing.assert_close(trial.losses(used), after, rtol=1e-3, atol=1e-3)
    if trial.objective.generates and trial.family != "encoder":
        together = trial.answers(used, ROWS)
        if combination.objective == "supervised":  # this depends on the method and the model only
            one_by_one = [answer for row in ROWS for answer in trial.answers(used, [row])]
            assert together == one_by_one, "one by one and in a batch"
        assert max(map(len, together)) <= 3


@pytest.mark.parametrize("combination", cases(UNTRAINED), ids=name_of)
def test_a_combination_that_trains_nothing_answers(combination, cache):
    trial = Trial(combination, cache)
    assert not [name for name, parameter in trial.model.named_parameters() if parameter.requires_grad]
    asked = trial.tuning.prompts(ROWS[:1], [conversation(index) for index in range(8)])
    assert len(asked) == 1
    assert asked[0].messages[-2:] == ROWS[0].messages[-2:] or asked[0].messages[-1] == ROWS[0].messages[-1]
    assert len(trial.answers(trial.model, ROWS[:2])) == 2


@pytest.mark.slow
@pytest.mark.parametrize("combination", cases(REFUSED), ids=name_of)
def test_a_combination_that_is_refused_fails_or_makes_no_sense(combination, cache, tmp_path):
    try:
        trial = Trial(combination, cache)
        before = states(trial.model)
        declared = {name for name, parameter in trial.model.named_parameters() if parameter.requires_grad}
        losses = trial.train()
        trial.tuning.save(trial.tuned, tmp_path / "saved")
        again = trial.tuning.load(trial.base(), tmp_path / "saved")
        same = torch.allclose(trial.losses(again.model), trial.losses(trial.model), rtol=1e-5, atol=1e-5)
    except Exception:
        return
    senseless = not all(torch.isfinite(torch.tensor(losses))) or changed(before, trial.model) != declared or not same
    known = (leaks, is_misaligned, copies, has_holes, lambda trial: not depends_on_what_trains(trial))
    assert senseless or not declared or any(reason(trial) for reason in known), combination.reason


def leaks(trial):
    """Whether the model reads the token that it predicts."""
    if trial.family != "encoder" or trial.batch.labels.shape != trial.batch.input_ids.shape:
        return False
    labels = trial.batch.labels[0]
    targets = (labels != IGNORED).nonzero()[:, 0]
    index = int(targets[len(targets) // 2])
    if int(trial.batch.input_ids[0, index]) != int(labels[index]):
        return False  # masked: the model does not read it
    changed_ids = trial.batch.input_ids.clone()
    changed_ids[0, index] = (changed_ids[0, index] + 1) % 50
    model = trial.base().model.eval()
    with torch.no_grad():
        first = model(input_ids=trial.batch.input_ids, attention_mask=trial.batch.attention_mask).logits
        second = model(input_ids=changed_ids, attention_mask=trial.batch.attention_mask).logits
    return not torch.equal(first[0, index - 1], second[0, index - 1])


def is_misaligned(trial):
    """Whether an encoder would have to predict another number of tokens than it reads."""
    return trial.family == "encoder" and trial.batch.labels.shape != trial.batch.input_ids.shape


def copies(trial):
    """Whether the decoder would have to repeat what the encoder reads, token by token."""
    return trial.family == "encoder-decoder" and torch.equal(
        trial.batch.labels.clamp(min=0), trial.batch.input_ids * trial.batch.attention_mask
    )


def has_holes(trial):
    """Whether a decoder reads padding inside a text, which it never does when it answers."""
    if trial.family != "encoder-decoder":
        return False
    labels = trial.batch.labels[0]
    return bool((labels[: int((labels != IGNORED).nonzero().max())] == IGNORED).any())


def depends_on_what_trains(trial):
    """Whether the loss depends on what is trained."""
    before = trial.losses(trial.model)
    with torch.no_grad():
        for parameter in trial.model.parameters():
            if parameter.requires_grad:
                parameter += 0.5
    return not torch.allclose(before, trial.losses(trial.model))


def test_the_reason_is_that_of_the_check():
    for combination in REFUSED[:50]:
        parts = [part(group, getattr(combination, group)) for group in ("objective", "tuning", "batching")]
        assert combination_reason(combination.family, *parts) == combination.reason
