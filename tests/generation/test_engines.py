"""Other engines give the answers of the package's own decoding, and leave the model as it was."""

import copy

import pydantic
import pytest
import torch
from support import fake_vllm
from support.decoding import SETTINGS, STOPS, load, one_by_one
from support.exhaustive import exhaustive

from instruct_lab import optional_packages
from instruct_lab.errors import InstructLabError
from instruct_lab.generation import Generation
from instruct_lab.generation.journal import AnswerJournal
from instruct_lab.model import Decoder, LoadedModel, Random
from instruct_lab.model.packed_attention import NAME as PACKED
from instruct_lab.records import RunRecord
from instruct_lab.tuning import Full, LoRA

RAGGED = [[(7 * i + 3 * j) % 256 for j in range(1 + (5 * i) % 23)] for i in range(13)]
CONTINUOUS = Generation(max_new_tokens=16, engine="transformers_cb")


def with_adapter(cache, **fields):
    """A tiny decoder with a LoRA adapter that changes its answers."""
    tokenizer, model = load(cache)
    adapted = LoRA(**fields).apply(LoadedModel(model=model, tokenizer=tokenizer, family="decoder")).model
    change_adapter(adapted)
    return adapted


def change_adapter(model, seed=0):
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)


def train_one_step(model):
    torch.manual_seed(1)
    model.train()
    ids = torch.tensor([PROMPT * 2, PROMPT[::-1] * 2])
    model(input_ids=ids, labels=ids).loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


PROMPT = [5, 9, 200, 14, 77]
SLIDING = {"head_dim": 8, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}


def variant(cache, name):
    if name == "adapter":
        return with_adapter(cache)
    architecture, settings = ("gemma3_text", {**SETTINGS, **SLIDING}) if name == "sliding" else ("llama", SETTINGS)
    made = Decoder(
        weights=Random(architecture=architecture, settings=settings), attention="eager" if name == "eager" else "sdpa"
    )
    model = made.load(made.load_tokenizer(cache), cache).model
    if name == "packed":
        model.set_attn_implementation(PACKED)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", [exhaustive("plain"), "adapter", "sliding", "eager", "packed"])
def test_continuous_batching_answers_as_one_by_one_and_the_next_step_is_the_same(tmp_path, name):
    model = variant(tmp_path, name)
    untouched = copy.deepcopy(model)
    expected = one_by_one(untouched, RAGGED, 16, STOPS)
    assert len({len(answer) for answer in expected}) > 1, "the answers have different lengths"
    model.train()
    found = CONTINUOUS.generate_ids(model, RAGGED, STOPS, 258)
    assert found == expected
    assert all(module.training for module in model.modules())
    assert model.config._attn_implementation == untouched.config._attn_implementation
    for one, other in zip(train_one_step(model), train_one_step(untouched), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_a_small_cache_and_no_stop_token_give_the_same_answers(tmp_path):
    model = load(tmp_path)[1]
    expected = one_by_one(model, RAGGED, 16, [])
    assert CONTINUOUS.generate_ids(model, RAGGED, [], 258, batch_tokens=64) == expected
    assert CONTINUOUS.generate_ids(model, [], STOPS, 258) == []


@pytest.mark.slow
def test_an_engine_that_fails_is_an_error_and_the_model_is_restored(tmp_path, monkeypatch):
    model = variant(tmp_path, "eager")

    def fail(*args, **options):
        raise ValueError("no such kernel")

    model.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(InstructLabError, match=r"transformers_cb.*no such kernel"):
        CONTINUOUS.generate_ids(model, RAGGED, STOPS, 258)
    assert model.config._attn_implementation == "eager"
    model = variant(tmp_path, "plain")
    model.config._attn_implementation_internal = "flex_attention"
    with pytest.raises(InstructLabError, match=r"transformers_cb.*flex_attention"):
        CONTINUOUS.generate_ids(model, RAGGED, STOPS, 258)
    assert model.config._attn_implementation == "flex_attention"


@pytest.mark.slow
def test_answers_in_the_journal_are_not_decoded_again(tmp_path):
    model = load(tmp_path)[1]
    journal = AnswerJournal(tmp_path / "answers.jsonl", "a")
    expected = CONTINUOUS.generate_ids(model, RAGGED, STOPS, 258, journal=journal)
    lines = (tmp_path / "answers.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "answers.jsonl").write_text("".join(lines[:6]))
    kept = AnswerJournal(tmp_path / "answers.jsonl", "a")
    assert kept.num_answers == 5
    known = {index for index in range(len(RAGGED)) if kept.read([index]) is not None}
    shapes = []
    model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: shapes.append(inputs[0].numel()))
    assert CONTINUOUS.generate_ids(model, RAGGED, STOPS, 258, journal=kept) == expected
    assert shapes[0] == sum(len(prompt) for index, prompt in enumerate(RAGGED) if index not in known)


@pytest.mark.slow
def test_the_signatures_of_answers_name_the_engine_and_training_is_the_same(train):
    overrides = ("trainer.max_steps=4", "evaluation.before=true")
    records = [RunRecord.open(train(*overrides, f"generation.engine={name}")) for name in ("native", "transformers_cb")]
    native, other = (record.summary.metrics for record in records)
    for name, systems in native.items():
        for system, value in systems.items():
            found = other[name][system]
            reads_answers = not name.endswith("/perplexity")
            is_model = system in ("before", "after", "difference")
            assert found.signature.endswith("|engine:transformers_cb") == (reads_answers and is_model), (name, system)
            assert (found.value, found.low, found.high) == (value.value, value.low, value.high)
            assert "engine" not in value.signature
    losses = [[line["train/loss"] for line in record.read_metrics() if "train/loss" in line] for record in records]
    assert losses[0] == losses[1]
    assert losses[0]


# ---- vllm


VLLM = Generation(max_new_tokens=12, engine="vllm")


@pytest.fixture
def started(monkeypatch):
    return fake_vllm.install(monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        exhaustive({}, id="plain"),
        pytest.param({"r": 3, "use_rslora": True}, id="rs"),
        pytest.param({"init": "pissa"}, id="pissa"),
    ],
)
def test_vllm_reads_the_base_once_and_the_adapter_at_each_evaluation(tmp_path, started, fields):
    model = with_adapter(tmp_path, **fields)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    answers = []
    for seed in (0, 1, 2):
        change_adapter(model, seed)
        answers.append(VLLM.generate_ids(model, RAGGED, STOPS, 258))
        assert answers[-1] == one_by_one(model, RAGGED, 12, STOPS)
        assert [engine.is_asleep for engine in started] == [True]
    assert answers[0] != answers[1]
    assert started[0].adapters == [1, 2, 3]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items() if "lora_B" not in name)
    VLLM.generate_ids(model, [PROMPT * 10], STOPS, 258)
    assert len(started) == 2, "a longer prompt needs a larger engine"


@pytest.mark.slow
def test_vllm_reads_all_weights_again_if_they_are_trained(tmp_path, started):
    tokenizer, model = load(tmp_path)
    loaded = Full().apply(LoadedModel(model=model, tokenizer=tokenizer, family="decoder"))
    for _ in range(2):
        assert VLLM.generate_ids(loaded.model, RAGGED, STOPS, 258) == one_by_one(model, RAGGED, 12, STOPS)
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight.data.mul_(-1)
    assert len(started) == 2
    assert not any("enable_lora" in engine.arguments for engine in started)


def test_vllm_gets_the_settings_of_sampling_with_the_seed_of_each_prompt(tmp_path, started, monkeypatch):
    model, seen = load(tmp_path)[1], []

    def answer(self, prompts, parameters, *, lora_request, use_tqdm):
        seen.extend(vars(one) for one in parameters)
        return [fake_vllm.output_of([7, STOPS[0], 9]) for _ in prompts]

    monkeypatch.setattr(fake_vllm.LLM, "generate", answer)
    sampled = Generation(max_new_tokens=5, engine="vllm", do_sample=True, top_p=0.8, repetition_penalty=1.3)
    assert sampled.generate_ids(model, RAGGED[:3], STOPS, 258, [11, 12, 13]) == [[7]] * 3
    assert [one["seed"] for one in seen] == [11, 12, 13]
    settings = {"temperature": 1.0, "top_p": 0.8, "top_k": 0, "repetition_penalty": 1.3, "max_tokens": 5}
    assert all(settings.items() <= one.items() and one["ignore_eos"] for one in seen)
    assert all(one["stop_token_ids"] == STOPS for one in seen)


# ---- refusals


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("transformers_cb", {"num_beams": 2}),
        ("transformers_cb", {"do_sample": True}),
        ("transformers_cb", {"repetition_penalty": 1.2}),
        ("vllm", {"num_beams": 3}),
    ],
)
def test_settings_that_an_engine_does_not_follow_are_refused(engine, options):
    with pytest.raises(pydantic.ValidationError, match=f"does not follow {next(iter(options))}"):
        Generation(engine=engine, **options)
    assert Generation(engine="vllm", do_sample=True, repetition_penalty=1.2).engine == "vllm"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["model=tiny_encoder_decoder", "generation.engine=transformers_cb"], "encoder-decoder"),
        (["tuning=p_tuning", "generation.engine=transformers_cb"], "virtual tokens"),
        (["model.attention=flex_attention", "generation.engine=transformers_cb"], "flex_attention"),
        (["tuning=ia3", "generation.engine=vllm"], "LoRA adapters, and IA3"),
        (["tuning=dora", "generation.engine=vllm"], "use_dora"),
        (["trainer.devices=2", "generation.engine=vllm"], "trainer.devices=2"),
        (["trainer.strategy=fsdp", "generation.engine=transformers_cb"], "splits it"),
        (["generation.engine=vlm"], "transformers_cb"),
    ],
)
def test_what_an_engine_cannot_run_is_refused_before_anything_is_loaded(lab, tiny, capsys, overrides, named):
    from instruct_lab import cli

    assert cli.main(["train", *tiny, *overrides]) == 2
    printed = capsys.readouterr()
    assert named in " ".join((printed.out + printed.err).split())


def test_vllm_is_refused_where_it_cannot_run(monkeypatch):
    monkeypatch.setattr(optional_packages, "is_installed", lambda module: module != "vllm")
    reasons = [problem.reason for problem in VLLM.problems()]
    assert any("pip install vllm" in reason for reason in reasons)
    assert not list(CONTINUOUS.problems())
