"""Every objective's loss equals a computation from its formula in float64, written here."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from instruct_lab.batching import IGNORED, Batch
from instruct_lab.model import Decoder, LoadedModel, Random
from instruct_lab.model.family import family_of
from instruct_lab.objective import (
    CPO,
    DPO,
    KTO,
    ORPO,
    Causal,
    Distillation,
    Masked,
    Reward,
    SimPO,
    SpanCorruption,
    Supervised,
)
from instruct_lab.objective.log_probabilities import sequence_log_probabilities, token_scores
from instruct_lab.tuning import LoRA

VOCABULARY = 40


def build_model(kind, config, seed=0, scale=3.0):
    torch.manual_seed(seed)
    model = kind(config).eval()
    for parameter in model.parameters():
        parameter.data *= scale  # logits that differ, and that float32 still computes to six digits
    return model


def llama(seed=0):
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return build_model(LlamaForCausalLM, config, seed)


def t5(seed=0):
    config = T5Config(
        vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return build_model(T5ForConditionalGeneration, config, seed, scale=0.5)


def bart(seed=0):
    config = BartConfig(
        vocab_size=VOCABULARY, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=32,
        pad_token_id=0, bos_token_id=2, eos_token_id=1, decoder_start_token_id=1,
    )  # fmt: skip
    return build_model(BartForConditionalGeneration, config, seed)


def bert():
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32,
    )  # fmt: skip
    return build_model(BertForMaskedLM, config)


def adapted(method, base):
    return method.apply(LoadedModel(model=copy.deepcopy(base), tokenizer=None, family=family_of(base))).model


def rows(lengths, starts, seed=0, width=None):
    """Random texts padded on the right; labels from `starts` on."""
    source = np.random.default_rng(seed)
    width = width or max(lengths)
    ids = torch.zeros(len(lengths), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, (length, start) in enumerate(zip(lengths, starts, strict=True)):
        ids[row, :length] = torch.tensor(source.integers(3, VOCABULARY, length))
        mask[row, :length] = 1
        labels[row, start:length] = ids[row, start:length]
    return ids, mask, labels


def batch_for(model, paired=False):
    ids, mask, labels = rows([9, 7, 5, 8], [4, 3, 2, 4])
    if family_of(model) == "encoder-decoder":
        answers, answered, _ = rows([4, 6, 3, 5], [0, 0, 0, 0], seed=1)
        labels = answers.masked_fill(answered == 0, IGNORED)
    return Batch(ids, mask, labels, sources=["a"] * (2 if paired else 4), is_paired=paired)


def log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def labelled_logits(model, batch):
    """By row: logits in float64 where a label is predicted, `[targets, vocab]`, and the labels."""
    double = copy.deepcopy(model).double().eval()
    found = []
    for row in range(len(batch.input_ids)):
        length = int(batch.attention_mask[row].sum())
        ids, labels = batch.input_ids[row : row + 1, :length], batch.labels[row].tolist()
        with torch.no_grad():
            if family_of(model) == "encoder-decoder":
                labels = [label for label in labels if label != IGNORED]
                start = model.config.decoder_start_token_id
                decoder = torch.tensor([[start, *labels[:-1]]])
                logits = double(input_ids=ids, decoder_input_ids=decoder).logits[0].numpy()
                pairs = list(zip(logits, labels, strict=True))
            else:
                logits = double(input_ids=ids).logits[0].numpy()
                shift = 1 if family_of(model) == "decoder" else 0
                pairs = [(logits[t - shift], labels[t]) for t in range(shift, length) if labels[t] != IGNORED]
        found.append((np.array([p for p, _ in pairs]), [label for _, label in pairs]))
    return found


def log_probabilities(model, batch):
    """By row: the log-probability of each label."""
    return [
        [log_softmax(one)[label] for one, label in zip(logits, labels, strict=True)]
        for logits, labels in labelled_logits(model, batch)
    ]


def close(loss, expected):
    torch.testing.assert_close(loss.sums.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-7)


def trained(model):
    """The model in training, without dropout."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "activation_dropout", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model.train()


def logistic(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("make", [llama, t5, bart])
def test_supervised(make):
    model = make()
    batch = batch_for(model)
    loss = Supervised().loss(model, batch)
    lp = log_probabilities(model, batch)
    close(loss, [-sum(row) for row in lp])
    assert loss.counts.tolist() == [len(row) for row in lp]


@pytest.mark.parametrize("make", [llama, t5])
def test_supervised_with_smoothing_z_loss_and_weights(make):
    model = make()
    batch = batch_for(model)
    batch.weights = torch.rand(batch.labels.shape, generator=torch.Generator().manual_seed(3))
    objective = Supervised(label_smoothing=0.2, z_loss=0.01)
    expected, counts = [], []
    for row, (logits, labels) in enumerate(labelled_logits(model, batch)):
        at = [t for t, label in enumerate(batch.labels[row].tolist()) if label != IGNORED]
        weights = batch.weights[row, at].double().tolist()
        total = 0.0
        for one, label, weight in zip(logits, labels, weights, strict=True):
            p = log_softmax(one)
            z = one.max() + math.log(np.exp(one - one.max()).sum())
            total += weight * (0.8 * -p[label] + 0.2 * -p.mean() + 0.01 * z**2)
        expected.append(total)
        counts.append(sum(weights))
    loss = objective.loss(trained(model), batch)
    close(loss, expected)
    torch.testing.assert_close(loss.counts.double(), torch.tensor(counts, dtype=torch.float64), rtol=1e-6, atol=0)
    plain = Supervised(message_weights=False).loss(model.eval(), batch)
    close(plain, [-sum(row) for row in log_probabilities(model, batch)])
    assert torch.equal(objective.loss(model.eval(), dataclasses.replace(batch, weights=None)).sums, plain.sums)


def test_causal_is_supervised_over_every_token():
    model = llama()
    ids, mask, labels = rows([9, 7], [1, 1])
    close(
        Causal().loss(model, Batch(ids, mask, labels)),
        [-sum(r) for r in log_probabilities(model, Batch(ids, mask, labels))],
    )
    assert Causal.reads == "text"


def test_masked_reads_labels_in_their_own_places():
    model = bert()
    ids, mask, labels = rows([9, 7], [0, 0])
    keep = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    labels = labels.masked_fill(~keep, IGNORED)
    ids = ids.masked_fill(keep & (mask == 1), 3)
    batch = Batch(ids, mask, labels)
    loss = Masked().loss(model, batch)
    close(loss, [-sum(row) for row in log_probabilities(model, batch)])
    assert loss.counts.tolist() == (labels != IGNORED).sum(dim=1).tolist()


@pytest.mark.slow
def test_denoising_is_the_cross_entropy_of_what_is_restored():
    model = t5()
    batch = batch_for(model)
    close(SpanCorruption().loss(model, batch), [-sum(row) for row in log_probabilities(model, batch)])


def pair_terms(model, batch):
    lp = log_probabilities(model, batch)
    half = len(lp) // 2
    return (
        [sum(r) for r in lp[:half]],
        [sum(r) for r in lp[half:]],
        [len(r) for r in lp[:half]],
        [len(r) for r in lp[half:]],
    )


REFERENCE = torch.tensor([[-20.0, -21.5], [-18.0, -16.0]])


@pytest.mark.parametrize("make", [llama, bart])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"label_smoothing": 0.1},
        {"label_smoothing": 0.1, "smoothing": "robust"},
        {"loss_type": "ipo"},
        {"loss_type": "hinge", "beta": 0.5},
    ],
    ids=str,
)
def test_dpo(make, settings):
    model = make()
    batch = batch_for(model, paired=True)
    batch.reference = REFERENCE
    objective = DPO(**settings)
    good, bad, good_length, bad_length = pair_terms(model, batch)
    e, expected = objective.label_smoothing, []
    for i in range(2):
        c, r = good[i] - float(REFERENCE[i, 0]), bad[i] - float(REFERENCE[i, 1])
        h = objective.beta * (c - r)
        if objective.loss_type == "ipo":
            expected.append((c / good_length[i] - r / bad_length[i] - 1 / (2 * objective.beta)) ** 2)
        elif objective.loss_type == "hinge":
            expected.append(max(0.0, 1 - h))
        elif objective.smoothing == "robust":
            expected.append((-(1 - e) * math.log(logistic(h)) + e * math.log(logistic(-h))) / (1 - 2 * e))
        else:
            expected.append(-(1 - e) * math.log(logistic(h)) - e * math.log(logistic(-h)))
    loss = objective.loss(trained(model), batch)
    close(loss, expected)
    assert loss.counts.tolist() == [1, 1]
    margins = [objective.beta * (good[i] - bad[i] - float(REFERENCE[i, 0] - REFERENCE[i, 1])) for i in range(2)]
    assert loss.values["margin"].tolist() == pytest.approx(margins, rel=1e-4)
    assert loss.values["accuracy"].tolist() == [float(margin > 0) for margin in margins]
    assert loss.values.keys() == DPO.value_names


@pytest.mark.parametrize("make", [llama, t5])
def test_orpo_simpo_cpo(make):
    model = make()
    batch = batch_for(model, paired=True)
    good, bad, good_length, bad_length = pair_terms(model, batch)
    orpo, simpo, cpo = [], [], []
    for i in range(2):
        c, r = good[i] / good_length[i], bad[i] / bad_length[i]
        odds = [math.log(math.exp(x) / (1 - math.exp(x))) for x in (c, r)]
        orpo.append(-c - 0.3 * math.log(logistic(odds[0] - odds[1])))
        simpo.append(-math.log(logistic(2.0 * (c - r) - 0.5 * 2.0)))
        h = 0.2 * (good[i] - bad[i])
        cpo.append(-math.log(logistic(h)) - 0.7 * c)
    close(ORPO(weight=0.3).loss(model, batch), orpo)
    close(SimPO().loss(model, batch), simpo)
    close(CPO(beta=0.2, cloning_weight=0.7).loss(model, batch), cpo)
    if make is llama:  # without dropout
        smooth = CPO(beta=0.2, cloning_weight=0.0, label_smoothing=0.25).loss(model.train(), batch)
        h = [0.2 * (good[i] - bad[i]) for i in range(2)]
        close(smooth, [-0.75 * math.log(logistic(x)) - 0.25 * math.log(logistic(-x)) for x in h])


@pytest.mark.parametrize(("seed", "clamped"), [(5, False), (11, True)])
def test_kto_estimates_its_divergence_from_other_prompts_answers(seed, clamped):
    base = llama()
    tuned = adapted(LoRA(r=2, target_modules=["q_proj", "v_proj"]), base)
    torch.manual_seed(seed)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5)
    batch = batch_for(base, paired=True)
    objective = KTO(beta=0.3, desirable_weight=1.5, undesirable_weight=0.5)
    loss = objective.loss(tuned.eval(), batch)
    merged = copy.deepcopy(tuned).merge_and_unload()
    good, bad, *_ = pair_terms(merged, batch)
    good_before, bad_before, *_ = pair_terms(base, batch)
    starts = [4, 3]
    lengths = [int(batch.attention_mask[row].sum()) for row in range(2)]
    ids, labels = [], []
    for row in range(2):
        other = 1 - row
        answer = batch.input_ids[other, starts[other] : lengths[other]].tolist()
        prompt = batch.input_ids[row, : starts[row]].tolist()
        ids.append([*prompt, *answer])
        labels.append([*[IGNORED] * len(prompt), *answer])
    ratios = []
    for one, label in zip(ids, labels, strict=True):
        single = Batch(torch.tensor([one]), torch.ones(1, len(one), dtype=torch.long), torch.tensor([label]))
        ratios.append(sum(log_probabilities(merged, single)[0]) - sum(log_probabilities(base, single)[0]))
    assert bool(sum(ratios) < 0) is clamped
    z = max(0.0, sum(ratios) / 2)
    expected = [
        1.5 * (1 - logistic(0.3 * (good[i] - good_before[i] - z)))
        + 0.5 * (1 - logistic(0.3 * (z - bad[i] + bad_before[i])))
        for i in range(2)
    ]
    close(loss, expected)


def test_the_base_model_is_read_with_adapters_off_or_from_the_batch():
    base = llama()
    tuned = adapted(LoRA(r=2, target_modules=["q_proj"]), base)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5)
    batch = batch_for(base, paired=True)
    with torch.no_grad():
        sums, _ = sequence_log_probabilities(base, batch)
    batch.reference = sums.reshape(2, -1).T
    before = DPO().loss(tuned, batch).sums
    live = DPO(reference="adapters_off").loss(tuned, batch).sums
    torch.testing.assert_close(before, live)
    assert not torch.allclose(before, torch.full_like(before, math.log(2))), "the tuned model differs"


def test_reward_reads_the_last_token_by_the_mask():
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_labels=1, pad_token_id=7,
    )  # fmt: skip
    model = build_model(LlamaForSequenceClassification, config)
    batch = batch_for(llama(), paired=True)
    batch.input_ids[0, 8] = 7  # the text itself ends in the pad token
    double = copy.deepcopy(model).double()
    scores = []
    for row in range(4):
        length = int(batch.attention_mask[row].sum())
        with torch.no_grad():
            hidden = double.model(input_ids=batch.input_ids[row : row + 1, :length]).last_hidden_state[0, -1]
            scores.append(float(double.score(hidden)))
    good, bad = scores[:2], scores[2:]
    expected = [-math.log(logistic(good[i] - bad[i])) + 0.01 * (good[i] + bad[i]) ** 2 for i in range(2)]
    loss = Reward(centering=0.01).loss(model, batch)
    close(loss, expected)
    assert loss.values["chosen_reward"].tolist() == pytest.approx(good, rel=1e-4)


@pytest.mark.parametrize("make", [llama, t5])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"divergence": "reverse"},
        {"temperature": 2.0, "target_weight": 0.25},
        {"top_k": 5},
        {"top_k": 5, "divergence": "reverse", "temperature": 0.5},
    ],
    ids=str,
)
def test_distillation(make, settings):
    student, teacher = make(0), make(1)
    batch = batch_for(student)
    objective = Distillation(teacher=Decoder(weights=Random()), **settings)
    t, expected = objective.temperature, []
    for (ours, labels), (theirs, _) in zip(
        labelled_logits(student, batch), labelled_logits(teacher, batch), strict=True
    ):
        total = 0.0
        for one, other, label in zip(ours, theirs, labels, strict=True):
            kept = np.argsort(-other)[: objective.top_k] if objective.top_k else np.arange(VOCABULARY)
            q, p = log_softmax(one[kept] / t), log_softmax(other[kept] / t)
            first, second = (p, q) if objective.divergence == "forward" else (q, p)
            divergence = float((np.exp(first) * (first - second)).sum())
            total += (1 - objective.target_weight) * t**2 * divergence
            total += objective.target_weight * -log_softmax(one)[label]
        expected.append(total)
    loss = objective.loss(student, batch, teacher)
    close(loss, expected)


@pytest.mark.parametrize("make", [llama, t5, bart, bert])
def test_token_scores(make):
    model = make()
    batch = batch_for(model)
    for score, (logits, labels) in zip(token_scores(model, batch), labelled_logits(model, batch), strict=True):
        p = [log_softmax(one) for one in logits]
        assert score.losses == pytest.approx([-one[label] for one, label in zip(p, labels, strict=True)], rel=1e-5)
        assert score.confidences == pytest.approx([math.exp(one.max()) for one in p], rel=1e-5)
        assert score.correct == [int(one.argmax()) == label for one, label in zip(p, labels, strict=True)]


@pytest.mark.parametrize("objective", [Supervised(), DPO(), ORPO(), SimPO(), CPO()], ids=lambda o: type(o).__name__)
def test_micro_batches_sum_to_the_batch(objective):
    model = llama()
    paired = objective.reads == "pairs"
    batch = batch_for(model, paired)
    batch.reference = REFERENCE if paired else None
    whole = objective.loss(model, batch)
    parts = []
    for row in range(2 if paired else 4):
        picked = [row, row + 2] if paired else [row]
        width = int(batch.attention_mask[picked].sum(dim=1).max())
        parts.append(
            Batch(
                batch.input_ids[picked, :width],
                batch.attention_mask[picked, :width],
                batch.labels[picked, :width],
                reference=REFERENCE[[row]] if paired else None,
                is_paired=paired,
            )
        )
    sums = torch.cat([objective.loss(model, part).sums for part in parts])
    torch.testing.assert_close(sums, whole.sums, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [DPO, CPO], ids=lambda kind: kind.__name__)
def test_labels_of_pairs_are_smoothed_only_in_training(kind):
    model = llama().eval()
    batch = batch_for(model, paired=True)
    batch.reference = REFERENCE
    plain, smoothed = kind().loss(model, batch).sums, kind(label_smoothing=0.2).loss(model, batch).sums
    assert torch.equal(plain, smoothed)
    assert not torch.allclose(plain, kind(label_smoothing=0.2).loss(model.train(), batch).sums)
