"""Losses and gradients with shared prefixes equal those without, and models that cannot share are named."""

import dataclasses
import re
from types import SimpleNamespace

import peft
import pytest
import torch
import transformers
from pydantic import ValidationError
from rich.console import Console
from torch import nn

from instruct_lab.batching import IGNORED, Example, Packed, Padded, prefixes
from instruct_lab.model import packed_attention
from instruct_lab.objective import CPO, Causal, Supervised
from instruct_lab.objective.shared_prefix import obstacle, pays
from instruct_lab.training.overview import print_prefix_obstacle
from instruct_lab.tuning.noise import add_embedding_noise

SMALL = {"vocab_size": 53, "num_hidden_layers": 3, "num_attention_heads": 2, "initializer_range": 0.4}
LLAMA = {**SMALL, "hidden_size": 16, "intermediate_size": 24, "num_key_value_heads": 1}
GPT2 = {"vocab_size": 53, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32, "initializer_range": 0.4}


@pytest.fixture(autouse=True)
def share_short_prefixes(monkeypatch):
    monkeypatch.setattr(prefixes, "PASS_POSITIONS", 0)


def decoder(name="llama", settings=LLAMA, **more):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(name, **{**settings, "pad_token_id": 0, **more})
    return transformers.AutoModelForCausalLM.from_config(config).train()


def adapted(model, **options):
    lora = peft.LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False, **options)
    return peft.get_peft_model(model, lora)


def prompted(seed, *answers, weights=False):
    """Examples with a common start, of which every second pair also has a common prompt."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda count: torch.randint(3, 53, (count,), generator=generator).tolist()  # noqa: E731
    start = draw(6)
    prompts = [start + draw(count) for count in (5, 3)]
    examples = []
    for number, length in enumerate(answers):
        prompt, answer = prompts[number % 2], draw(length)
        ids = prompt + answer
        weight = [0.0] * len(prompt) + [0.5 + number] * length if weights else None
        labels = [IGNORED] * len(prompt) + answer
        examples.append(Example(ids, labels, str(number), weights=weight))
    return examples


def texts(seed, *lengths):
    """Examples whose common start is trained too."""
    return [dataclasses.replace(one, labels=list(one.input_ids)) for one in prompted(seed, *lengths)]


def pairs(seed, *lengths):
    """Preference pairs whose answers differ in length."""
    chosen = prompted(seed, *lengths)
    ends = [one.labels.count(IGNORED) for one in chosen]
    rejected = [
        Example([*one.input_ids[:end], 7, 8], [IGNORED] * end + [7, 8], one.id)
        for one, end in zip(chosen, ends, strict=True)
    ]
    return [dataclasses.replace(one, rejected=other) for one, other in zip(chosen, rejected, strict=True)]


def evaluate(model, objective, examples, share):
    """Compute the losses and the gradient of their sum, and the number of positions that the model read."""
    batch = Padded(share_prefix=share).collate(examples, 0)
    positions = []
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    hook = base.get_input_embeddings().register_forward_pre_hook(lambda _, given: positions.append(given[0].numel()))
    model.zero_grad()
    loss = objective.loss(model, batch)
    loss.sums.sum().backward()
    hook.remove()
    gradient = torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])
    return loss, gradient, positions, batch


MODELS = {
    "full": decoder,
    "learned positions": lambda: decoder("gpt2", GPT2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0),
    "LoRA": lambda: adapted(decoder()),
    "eager": lambda: decoder(attn_implementation="eager"),
    "attention of packed rows": lambda: decoder(attn_implementation=packed_attention.NAME),
    "sliding window": lambda: decoder("mistral", sliding_window=18),
    "in evaluation mode, with dropout": lambda: adapted(decoder(attention_dropout=0.5), lora_dropout=0.5).eval(),
}
LOSSES = {
    "supervised": (Supervised(label_smoothing=0.1), prompted(1, 3, 6, 5, 2, 4)),
    "weighted": (Supervised(), prompted(2, 4, 1, 7, weights=True)),
    "text": (Causal(z_loss=0.1), texts(3, 5, 2, 2, 8)),
    "pairs": (CPO(), pairs(4, 5, 1, 3, 2)),
}


@pytest.mark.parametrize(
    ("model", "loss"),
    [*((model, "supervised") for model in MODELS), *(("full", loss) for loss in LOSSES), ("LoRA", "pairs")],
)
def test_losses_and_gradients_equal_those_of_the_padded_batch(model, loss):
    objective, examples = LOSSES[loss]
    tuned = MODELS[model]()
    expected, gradient, positions, batch = evaluate(tuned, objective, examples, "off")
    shared, shared_gradient, levels, with_tree = evaluate(tuned, objective, examples, "auto")
    assert positions == [batch.input_ids.numel()]
    assert levels == [level.input_ids.numel() for level in with_tree.prefixes.levels]
    assert sum(levels) < sum(positions)
    assert shared.counts.equal(expected.counts)
    torch.testing.assert_close(shared.sums, expected.sums, rtol=2e-6, atol=2e-6)
    assert (shared_gradient - gradient).norm() <= 1e-5 * gradient.norm()


@pytest.fixture
def several_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("loss", ["supervised", "text"])
def test_gradients_are_the_same_to_the_bit_with_several_threads(loss, several_threads):
    """The gradients of a prefix are sums over its rows; threads that add them at the same time change their order."""
    objective, _ = LOSSES[loss]
    make = texts if loss == "text" else prompted
    examples = make(1, *range(3, 35))
    model = decoder(hidden_size=128, intermediate_size=64, num_key_value_heads=2)
    _, first, (start, *_), _ = evaluate(model, objective, examples, "auto")
    assert start < 20, "the common start is computed once"
    assert all(torch.equal(evaluate(model, objective, examples, "auto")[1], first) for _ in range(8))


def test_only_trained_parameters_get_gradients():
    model = decoder()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "layers.2." in name
    objective, examples = LOSSES["supervised"]
    _, gradient, _, _ = evaluate(model, objective, examples, "off")
    _, shared, levels, _ = evaluate(model, objective, examples, "auto")
    assert len(levels) > 1
    assert (shared - gradient).norm() <= 1e-5 * gradient.norm()


def noisy():
    model = decoder()
    add_embedding_noise(model, 5.0)
    return model


def checkpointing():
    model = decoder()
    model.gradient_checkpointing_enable()
    return model


class OwnCode(transformers.LlamaForCausalLM):
    """A model whose code comes from elsewhere."""


def with_virtual_tokens():
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    return peft.get_peft_model(decoder(), config)


OBSTACLES = {
    "virtual tokens": with_virtual_tokens,
    "sliding window": lambda: decoder("mistral", sliding_window=17),
    "near tokens": lambda: decoder(
        "gpt_neo", {"vocab_size": 53, "hidden_size": 16, "num_heads": 2}, num_layers=2, attention_types=[[["local"], 2]]
    ),
    "earlier keys and values": lambda: decoder(
        "mamba", {"vocab_size": 53, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}
    ),
    "causal decoder": lambda: transformers.BertForMaskedLM(
        transformers.BertConfig(**{**SMALL, "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1})
    ),
    "not a language model": lambda: transformers.LlamaForSequenceClassification(decoder().config),
    "attention_dropout": lambda: decoder(attention_dropout=0.1),
    "Dropout with p=0.1": lambda: adapted(decoder(), lora_dropout=0.1),
    "rank_dropout": lambda: peft.get_peft_model(
        decoder(), peft.LoHaConfig(target_modules=["q_proj"], rank_dropout=0.1)
    ),
    "resid_pdrop|Dropout": lambda: decoder("gpt2", GPT2),
    "noise": noisy,
    "gradient checkpointing": checkpointing,
    "length of the text": lambda: decoder(
        rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, max_position_embeddings=8
    ),
    "not part of transformers": lambda: OwnCode(decoder().config),
    "flex_attention": lambda: decoder(attn_implementation="flex_attention"),
}


@pytest.mark.parametrize("reason", OBSTACLES)
def test_a_model_that_cannot_share_is_named_and_computes_the_padded_batch(reason):
    model = OBSTACLES[reason]().train()
    found = obstacle(model, width=17)
    assert re.search(reason, found)
    if found.startswith(("the model is not", "it is not tested")):
        return
    objective, examples = LOSSES["supervised"]
    _, _, positions, batch = evaluate(model, objective, examples, "auto")
    assert positions == [batch.input_ids.numel()]


def test_randomness_is_an_obstacle_in_training_only():
    for name in ("attention_dropout", "Dropout with p=0.1", "noise", "gradient checkpointing"):
        model = OBSTACLES[name]()
        assert obstacle(model.train())
        assert obstacle(model.eval()) is None


@pytest.mark.parametrize(
    ("dropout", "batching", "is_named"),
    [(0.1, Padded(), True), (0.0, Padded(), False), (0.1, Padded(share_prefix="off"), False), (0.1, Packed(), False)],
)
def test_a_run_prints_why_it_cannot_share(dropout, batching, is_named, capsys):
    experiment = SimpleNamespace(batching=batching, objective=Supervised())
    run = SimpleNamespace(experiment=experiment, console=Console(width=200))
    model = adapted(decoder(), lora_dropout=dropout)
    print_prefix_obstacle(run, SimpleNamespace(model=model, family="decoder"))
    shown = capsys.readouterr().out
    assert shown.startswith("shared prefixes are computed in every row, because dropout") == is_named
    assert bool(shown) == is_named


def test_packed_texts_share_nothing():
    assert Packed().collate(prompted(1, 3, 6, 5), 0).prefixes is None
    with pytest.raises(ValidationError, match="off"):
        Packed(share_prefix="auto")


def test_on_an_accelerator_the_saved_work_has_to_outweigh_the_start_of_further_kernels():
    tree = Padded().collate(prompted(1, 3, 6, 5), 0).prefixes
    assert pays(decoder(), tree)
    assert not pays(decoder().to("meta"), tree)
    with torch.device("meta"):
        large = nn.Linear(100_000, 1_000_000)
    small = decoder().to("meta")
    small.large = large
    assert pays(small, tree)
