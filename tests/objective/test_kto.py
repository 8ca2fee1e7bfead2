"""KTO on labelled answers, pairs and both together equals its formula, computed here in float64 answer by answer."""

import copy
import math

import pytest
import torch
from test_losses_in_double import adapted, bart, llama, log_probabilities, logistic

from instruct_lab.batching import IGNORED, Batch, Example, Padded
from instruct_lab.model.family import family_of
from instruct_lab.objective import KTO
from instruct_lab.tuning import LoRA

PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13], [14, 15]]
ANSWERS = [[20, 21], [22, 23, 24], [25], [26, 27, 28, 29]]
OTHERS = [[30], [31, 32], [33, 34, 35], [36]]


def tuned_model(base, seed=5):
    modules = ["q_proj", "v_proj"]
    tuned = adapted(LoRA(r=2, target_modules=modules), base)
    torch.manual_seed(seed)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5)
    return tuned.eval()


def single(prompt, answer, is_text, **settings):
    if not is_text:
        return Example([*prompt], [*answer], **settings)
    return Example([*prompt, *answer], [IGNORED] * len(prompt) + [*answer], **settings)


def log_ratio(merged, base, prompt, answer, is_text):
    one = single(prompt, answer, is_text)
    mask = torch.ones(1, len(one.input_ids), dtype=torch.long)
    batch = Batch(torch.tensor([one.input_ids]), mask, torch.tensor([one.labels]))
    return sum(log_probabilities(merged, batch)[0]) - sum(log_probabilities(base, batch)[0])


@pytest.mark.slow
@pytest.mark.parametrize("make", [llama, bart])
@pytest.mark.parametrize(
    "kinds",  # of each example: a desirable answer, an undesirable one, or a pair
    ["+-+-", "++++", "----", "p+-p", "+ppp", "pppp", "p", "-", "-+"],
)
@pytest.mark.parametrize("multiple", [1, 16])
def test_the_loss_is_the_formula_for_labels_pairs_and_both(make, kinds, multiple) -> None:
    base = make()
    is_text = family_of(base) == "decoder"
    tuned = tuned_model(base)
    merged = copy.deepcopy(tuned).merge_and_unload()
    examples = []
    for index, kind in enumerate(kinds):
        rejected = single(PROMPTS[index], OTHERS[index], is_text) if kind == "p" else None
        label = None if kind == "p" else kind == "+"
        examples.append(
            single(PROMPTS[index], ANSWERS[index], is_text, rejected=rejected, desirable=label, id=str(index))
        )
    batch = Padded(pad_to_multiple_of=multiple).collate(examples, 0)
    objective = KTO(beta=0.3, desirable_weight=1.5, undesirable_weight=0.5)
    loss = objective.loss(tuned, batch)

    count = len(kinds)
    mismatched = [log_ratio(merged, base, PROMPTS[i], ANSWERS[(i + 1) % count], is_text) for i in range(count)]
    z = max(0.0, sum(mismatched) / count)
    expected, counts, chosen, rejected = [], [], [], []
    for index, kind in enumerate(kinds):
        first = log_ratio(merged, base, PROMPTS[index], ANSWERS[index], is_text)
        terms = [0.5 * (1 - logistic(0.3 * (z - first))) if kind == "-" else 1.5 * (1 - logistic(0.3 * (first - z)))]
        second = math.nan
        if kind == "p":
            second = log_ratio(merged, base, PROMPTS[index], OTHERS[index], is_text)
            terms.append(0.5 * (1 - logistic(0.3 * (z - second))))
        chosen.append(math.nan if kind == "-" else 0.3 * first)
        rejected.append(0.3 * first if kind == "-" else 0.3 * second)
        expected.append(sum(terms))
        counts.append(len(terms))
    torch.testing.assert_close(loss.sums.double(), torch.tensor(expected).double(), rtol=2e-5, atol=1e-6)
    assert loss.counts.tolist() == counts
    assert loss.values["chosen_reward"].tolist() == pytest.approx(chosen, rel=1e-3, abs=1e-5, nan_ok=True)
    assert loss.values["rejected_reward"].tolist() == pytest.approx(rejected, rel=1e-3, abs=1e-5, nan_ok=True)
    pairs = [kind == "p" for kind in kinds]
    assert [not math.isnan(value) for value in loss.values["margin"].tolist()] == pairs
    assert [value in (0.0, 0.5, 1.0) for value in loss.values["accuracy"].tolist()] == pairs
    assert loss.values.keys() == KTO.value_names


def test_only_answers_on_the_right_side_of_the_base_model_lower_the_loss() -> None:
    base = llama()
    tuned = tuned_model(base, seed=3)
    for desirable in (True, False):
        examples = [single(p, a, True, desirable=desirable) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
        batch = Padded().collate(examples, 0)
        tuned.zero_grad()
        loss = KTO().loss(tuned, batch)
        loss.sums.sum().backward()
        parameters = [p for p in tuned.parameters() if p.requires_grad and p.grad is not None]
        before = [p.detach().clone() for p in parameters]
        for p in parameters:
            p.data -= 0.02 * p.grad
        rewards = KTO().loss(tuned, batch).values["chosen_reward" if desirable else "rejected_reward"]
        first = loss.values["chosen_reward" if desirable else "rejected_reward"]
        assert (rewards.mean() > first.mean()).item() is desirable
        for p, old in zip(parameters, before, strict=True):
            p.data.copy_(old)
