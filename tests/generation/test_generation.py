"""Answers do not depend on the batch, on the checkpoint's defaults or on the padding."""

import warnings

import pydantic
import pytest
import torch
from support.decoding import SETTINGS, STOPS, load, one_by_one
from transformers import GenerationConfig
from transformers.modeling_outputs import CausalLMOutput

from instruct_lab.errors import InstructLabError
from instruct_lab.generation import Generation
from instruct_lab.model import Decoder, LoadedModel, Random
from instruct_lab.tuning import LoRA

RAGGED = [[(7 * i + 3 * j) % 256 for j in range(1 + (5 * i) % 23)] for i in range(13)]


@pytest.fixture
def tokenizer(tmp_path):
    return load(tmp_path)[0]


@pytest.fixture
def model(tmp_path):
    return load(tmp_path)[1]


@pytest.mark.slow
@pytest.mark.parametrize("batch_tokens", [1, 120, None], ids=["one by one", "small batches", "one batch"])
@pytest.mark.parametrize("pad", [258, 256, None], ids=["pad ends a turn", "pad of its own", "no pad"])
def test_ragged_batch_gives_the_tokens_of_each_prompt_alone(model, batch_tokens, pad):
    expected = one_by_one(model, RAGGED, 20, STOPS)
    lengths = {len(answer) for answer in expected}
    assert len(lengths) > 3, "the answers have different lengths"
    found = Generation(max_new_tokens=20).generate_ids(model, RAGGED, STOPS, pad, batch_tokens=batch_tokens)
    assert found == expected


NEOX = {name: value for name, value in SETTINGS.items() if name != "num_key_value_heads"}
BLOOM = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.4}  # takes no positions
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96, "initializer_range": 0.4}  # counts from the left
SLIDING = {"head_dim": 8, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("qwen3", {**SETTINGS, "head_dim": 8}),
        ("gemma3_text", {**SETTINGS, **SLIDING}),
        ("gpt_neox", NEOX),
        ("gpt2", GPT2),
        ("bloom", BLOOM),
    ],
)
def test_other_architectures_answer_as_one_by_one(tmp_path, architecture, settings):
    weights = Random(architecture=architecture, settings=settings)
    made = Decoder(weights=weights, attention="eager" if architecture == "bloom" else "sdpa")
    model = made.load(made.load_tokenizer(tmp_path), tmp_path).model
    expected = one_by_one(model, RAGGED, 12, STOPS)
    assert Generation(max_new_tokens=12).generate_ids(model, RAGGED, STOPS, 258, batch_tokens=150) == expected


def test_beam_search_finds_what_a_full_search_finds(model):
    """With as many beams as tokens, two steps of beam search are exhaustive."""
    prompt = [3, 1, 4]
    with torch.no_grad():
        first = model(input_ids=torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        batch = torch.tensor([[*prompt, token] for token in range(259)])
        second = model(input_ids=batch).logits[:, -1].log_softmax(-1)
    scores = first[:, None] + second
    best = divmod(int(scores.argmax()), 259)
    found = Generation(max_new_tokens=2, num_beams=259).generate_ids(model, [prompt], [], 258)
    assert found == [list(best)]


def test_beam_search_of_a_ragged_batch_is_that_of_each_prompt(model):
    beams = Generation(max_new_tokens=8, num_beams=3)
    together = beams.generate_ids(model, RAGGED[:8], STOPS, 258)
    assert together == [beams.generate_ids(model, [prompt], STOPS, 258)[0] for prompt in RAGGED[:8]]


@pytest.mark.slow
@pytest.mark.parametrize("num_beams", [1, 3])
def test_padding_is_not_counted_as_repeated(model, num_beams):
    generation = Generation(max_new_tokens=10, repetition_penalty=3.0, num_beams=num_beams)
    together = generation.generate_ids(model, RAGGED, STOPS, 258)
    assert together == [generation.generate_ids(model, [prompt], STOPS, 258)[0] for prompt in RAGGED]
    plain = Generation(max_new_tokens=10, num_beams=num_beams).generate_ids(model, RAGGED, STOPS, 258)
    assert together != plain


def test_repetition_penalty_is_that_of_transformers_where_nothing_is_padded(model):
    prompt = [[5, 6, 7, 8]]
    config = GenerationConfig(max_new_tokens=15, repetition_penalty=1.7, eos_token_id=STOPS, pad_token_id=258)
    output = model.generate(torch.tensor(prompt), generation_config=config)[0, 4:].tolist()
    ends = [index for index, token in enumerate(output) if token in STOPS]
    found = Generation(max_new_tokens=15, repetition_penalty=1.7).generate_ids(model, prompt, STOPS, 258)
    assert found == [output[: ends[0]] if ends else output]


@pytest.mark.parametrize("num_beams", [1, 2])
def test_defaults_of_the_checkpoint_never_take_part(model, num_beams):
    generation = Generation(max_new_tokens=12, num_beams=num_beams)
    expected = generation.generate_ids(model, RAGGED, STOPS, 258)
    own = GenerationConfig(
        temperature=0.3,
        do_sample=True,
        top_k=2,
        repetition_penalty=5.0,
        no_repeat_ngram_size=1,
        min_new_tokens=12,
        max_length=7,
        suppress_tokens=list(range(100)),
        eos_token_id=3,
    )
    model.generation_config = own
    assert generation.generate_ids(model, RAGGED, STOPS, 258) == expected
    assert model.generation_config is own


def test_modes_and_settings_of_the_model_are_as_before(model):
    model.train()
    model.model.layers[0].eval()
    model.config.use_cache = False
    Generation(max_new_tokens=2).generate_ids(model, RAGGED, STOPS, 258)
    assert model.training
    assert not model.model.layers[0].mlp.training
    assert model.model.layers[1].mlp.training
    assert model.config.use_cache is False


def test_modes_are_as_before_after_a_failure(model, monkeypatch):
    model.train()
    own = model.generation_config
    monkeypatch.setattr(model, "forward", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Generation(max_new_tokens=4).generate_ids(model, [[1]], STOPS, 258)
    assert model.training
    assert model.generation_config is own


def test_dropout_does_not_take_part(tmp_path):
    _, model = load(tmp_path, attention_dropout=0.5)
    expected = Generation(max_new_tokens=8).generate_ids(model, RAGGED, STOPS, 258)
    model.train()
    assert Generation(max_new_tokens=8).generate_ids(model, RAGGED, STOPS, 258) == expected


@pytest.mark.slow
def test_adapted_model_answers_as_its_merged_one(model):
    lora = LoRA(r=4)
    torch.manual_seed(0)
    tuned = lora.apply(LoadedModel(model=model, tokenizer=None, family="decoder"))
    adapted = tuned.model
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    for num_beams in (1, 3):
        generation = Generation(max_new_tokens=10, num_beams=num_beams)
        own = adapted.base_model.model.generation_config
        found = generation.generate_ids(adapted, RAGGED, STOPS, 258)
        assert adapted.base_model.model.generation_config is own
        if num_beams == 1:
            assert found == one_by_one(adapted.eval(), RAGGED, 10, STOPS)
        expected = found
    merged = lora.merge(tuned).model
    assert generation.generate_ids(merged, RAGGED, STOPS, 258) == expected


def test_text_has_no_prompt_and_no_special_token_and_may_be_empty(model, tokenizer, monkeypatch):
    letters = tokenizer("Né .\n")["input_ids"]
    chosen = {5: [*letters, 257, *letters, 258], 6: [258]}

    def forward(input_ids, attention_mask, **_):
        step = int(attention_mask.shape[1]) - 6
        scores = torch.zeros(len(input_ids), 1, 259)
        for row, prompt in enumerate(attention_mask[:, :6].sum(-1).tolist()):
            scores[row, 0, chosen[prompt][min(step, len(chosen[prompt]) - 1)]] = 1
        return CausalLMOutput(logits=scores)

    monkeypatch.setattr(model, "forward", forward)
    answers = Generation(max_new_tokens=30).generate(model, tokenizer, [[1] * 5, [2] * 6], [258])
    assert [answer.text for answer in answers] == ["Né .\nNé .\n", ""]


def test_answers_come_in_the_order_of_the_prompts(model, tokenizer):
    generation = Generation(max_new_tokens=6)
    forwards = generation.generate(model, tokenizer, RAGGED, STOPS, batch_tokens=60)
    backwards = generation.generate(model, tokenizer, RAGGED[::-1], STOPS, batch_tokens=60)
    assert forwards == backwards[::-1]
    assert len(set(forwards)) > 3


@pytest.mark.slow
@pytest.mark.parametrize("num_beams", [1, 2])
@pytest.mark.parametrize("max_new_tokens", [1, 4, 9])
def test_an_answer_that_meets_no_stop_token_is_cut(model, tokenizer, num_beams, max_new_tokens):
    generation = Generation(max_new_tokens=max_new_tokens, num_beams=num_beams)
    assert all(answer.is_cut for answer in generation.generate(model, tokenizer, RAGGED, []))
    ids = generation.generate_ids(model, RAGGED, STOPS, 258)
    answers = generation.generate(model, tokenizer, RAGGED, STOPS)
    assert [answer.is_cut for answer in answers] == [len(one) == max_new_tokens for one in ids]


def test_nothing_to_answer(model, tokenizer):
    assert Generation(max_new_tokens=4).generate(model, tokenizer, [], STOPS) == []


def test_without_a_limit_nothing_is_generated_and_the_setting_is_named(model, tokenizer):
    with pytest.raises(InstructLabError, match=r"training answers of a run.*generation\.max_new_tokens"):
        Generation().generate(model, tokenizer, [[1]], STOPS)


@pytest.mark.parametrize("num_beams", [1, 2])
def test_longest_answer_is_bounded(model, num_beams):
    found = Generation(max_new_tokens=5, num_beams=num_beams).generate_ids(model, RAGGED, [], 258)
    assert {len(answer) for answer in found} == {5}


def test_prompt_that_leaves_no_room_and_empty_prompt_are_errors(model):
    generation = Generation(max_new_tokens=20)
    assert generation.generate_ids(model, [[1] * 76], STOPS, 258)
    with pytest.raises(InstructLabError, match="Prompt 2 of 2 has 77 tokens"):
        generation.generate_ids(model, [[1], [1] * 77], STOPS, 258)
    with pytest.raises(InstructLabError, match="Prompt 1 of 1 has no tokens"):
        generation.generate_ids(model, [[]], STOPS, 258)


def test_nothing_is_printed_or_warned(model, caplog, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Generation(max_new_tokens=3).generate_ids(model, RAGGED, STOPS, 258)
        Generation(max_new_tokens=3, num_beams=2).generate_ids(model, RAGGED, STOPS, 258)
        Generation(max_new_tokens=3, do_sample=True, top_p=0.9).generate_ids(model, RAGGED, STOPS, 258)
    assert not caplog.text
    assert capfd.readouterr() == ("", "")


# ---- sampling


def test_sampling_repeats_by_the_callers_seed(model):
    sampling = Generation(max_new_tokens=10, do_sample=True, temperature=1.5)

    def draw(seed):
        torch.manual_seed(seed)
        return sampling.generate_ids(model, RAGGED, STOPS, 258)

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)


@pytest.mark.slow
def test_a_sampled_answer_depends_on_its_own_seed_and_not_on_the_batch(model):
    sampling = Generation(max_new_tokens=10, do_sample=True, temperature=1.5)
    seeds = list(range(len(RAGGED)))
    together = sampling.generate_ids(model, RAGGED, STOPS, 258, seeds, batch_tokens=90)
    reversed_batch = sampling.generate_ids(model, RAGGED[::-1], STOPS, 258, seeds[::-1])[::-1]
    one_by_one = [sampling.generate_ids(model, [RAGGED[seed]], STOPS, 258, [seed])[0] for seed in seeds]
    assert together == reversed_batch == one_by_one
    assert sampling.generate_ids(model, RAGGED, STOPS, 258, [seed + 99 for seed in seeds]) != together


def test_sampling_follows_the_models_distribution(tmp_path):
    _, model = load(tmp_path, initializer_range=0.15)
    prompt = [10, 20, 30]
    with torch.no_grad():
        scores = model(input_ids=torch.tensor([prompt])).logits[0, -1]
    warped = (scores / 0.8).softmax(-1)
    kept = warped.topk(4)
    torch.manual_seed(0)
    sampling = Generation(max_new_tokens=1, do_sample=True, temperature=0.8, top_k=4)
    drawn = [answer[0] for answer in sampling.generate_ids(model, [prompt] * 4000, [], 258, batch_tokens=16_000)]
    share = torch.tensor([drawn.count(token) / 4000 for token in kept.indices.tolist()])
    torch.testing.assert_close(share, kept.values / kept.values.sum(), atol=0.03, rtol=0)


def test_top_p_keeps_the_smallest_set(model):
    with torch.no_grad():
        scores = model(input_ids=torch.tensor([[1, 2]])).logits[0, -1].softmax(-1).sort(descending=True)
    kept = int((scores.values.cumsum(0) < 0.5).sum()) + 1
    sampling = Generation(max_new_tokens=1, do_sample=True, top_p=0.5)
    torch.manual_seed(0)
    drawn = {answer[0] for answer in sampling.generate_ids(model, [[1, 2]] * 500, [], 258, batch_tokens=1500)}
    assert drawn <= set(scores.indices[:kept].tolist())


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.7},
        {"top_p": 0.9},
        {"top_k": 5},
        {"do_sample": True, "temperature": 0.0},
        {"do_sample": True, "top_p": 1.1},
        {"max_new_tokens": 0},
        {"num_beams": 0},
        {"repetition_penalty": 0.0},
        {"length_penalty": 2.0},
        {"beams": 4},
    ],
)
def test_settings_without_effect_or_out_of_range_are_refused(fields):
    with pytest.raises(pydantic.ValidationError):
        Generation(**fields)
