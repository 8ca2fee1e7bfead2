"""Tokens that all prompts share are computed once, and ended rows not at all; the answers are the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.decoding import SETTINGS, STOPS, load, one_by_one

from instruct_lab.generation import Generation, decoding
from instruct_lab.generation.finished_rows import MAX_RUNNING_SHARE, MIN_ROWS
from instruct_lab.generation.shared_prefix import MIN_SAVED, shared_length
from instruct_lab.model import Decoder, LoadedModel, Random, packed_attention
from instruct_lab.tuning import LoRA, PromptTuning

PREFIX = [(11 * i) % 251 for i in range(24)]
PROMPTS = [PREFIX + [(7 * i + 3 * j) % 256 for j in range(5 + i % 6)] for i in range(13)]


@pytest.fixture
def model(tmp_path):
    return load(tmp_path)[1]


@pytest.fixture
def shapes(monkeypatch):
    """The rows and columns of each forward pass."""
    found = []

    def watch(model):
        layer = model.get_input_embeddings()
        layer.register_forward_hook(lambda module, inputs, output: found.append(tuple(inputs[0].shape)))
        return found

    return watch


def whole(model, monkeypatch, generate):
    """The answers when each prompt is computed whole and no row leaves."""
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "obstacle", lambda model, width: "it is switched off")
        return generate()


DECODING = {
    "greedy": {},
    "penalty": {"repetition_penalty": 3.0},
    "sampled": {"do_sample": True, "temperature": 1.5},
    "sampled with penalty": {"do_sample": True, "repetition_penalty": 2.0, "num_samples": 2},
    "beams": {"num_beams": 3},
    "beams with penalty": {"num_beams": 2, "repetition_penalty": 3.0},
}


@pytest.mark.slow
@pytest.mark.parametrize("options", DECODING.values(), ids=DECODING)
def test_answers_are_those_of_prompts_that_are_computed_whole(model, shapes, monkeypatch, options):
    generation = Generation(max_new_tokens=12, **options)

    def generate(prompts=PROMPTS, seeds=range(13)):
        return generation.generate_ids(model, prompts, STOPS, 258, list(seeds))

    expected = whole(model, monkeypatch, generate)
    assert len(set(map(tuple, expected))) > 5
    seen = shapes(model)
    assert generate() == expected
    assert seen[0] == (1, len(PREFIX))
    own = max(map(len, PROMPTS)) - len(PREFIX)
    beams = generation.num_beams
    assert seen[1:3] == ([(13, own), (13, 1)] if beams == 1 else [(13, own - 1), (13 * beams, 1)])
    assert [generate([prompt], [seed])[0] for seed, prompt in enumerate(PROMPTS)] == expected


def test_greedy_answers_are_those_of_decoding_without_a_cache(model):
    assert Generation(max_new_tokens=12).generate_ids(model, PROMPTS, STOPS, 258) == one_by_one(
        model, PROMPTS, 12, STOPS
    )


def test_rows_that_have_ended_are_not_computed(model, shapes):
    prompts = [prompt for prompt in PROMPTS if len(prompt) < 32]
    expected = one_by_one(model, prompts, 40, STOPS)
    seen = shapes(model)
    assert Generation(max_new_tokens=40).generate_ids(model, prompts * 3, STOPS, 258) == expected * 3
    ends = [len(answer) for answer in expected * 3]
    rows = [num_rows for num_rows, width in seen if width == 1]  # the first of these passes gives the first token
    assert len(rows) == min(40, max(ends) + 1)
    assert len(set(rows)) > 2
    for step, num_rows in enumerate(rows):
        num_running = sum(end >= step for end in ends)
        assert num_running <= num_rows
        assert num_rows <= MIN_ROWS or num_running > MAX_RUNNING_SHARE * num_rows


tokens = st.lists(st.integers(0, 2), min_size=1, max_size=40)


@settings(max_examples=200)
@given(tokens, st.lists(tokens, min_size=1, max_size=12))
def test_the_shared_length_is_the_longest_that_leaves_each_prompt_a_token(first, rest):
    prompts = [first + one for one in rest]
    found = shared_length(prompts)
    fits = [
        length for length in range(min(map(len, prompts))) if len({tuple(prompt[:length]) for prompt in prompts}) == 1
    ]
    assert found == (max(fits) if max(fits) * (len(prompts) - 1) >= MIN_SAVED else 0)


GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96, "initializer_range": 0.4}
NEOX = {name: value for name, value in SETTINGS.items() if name != "num_key_value_heads"}
GEMMA = {**SETTINGS, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]}
LOCAL = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
BLOOM = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.4}


@pytest.mark.parametrize(
    ("architecture", "of_model", "is_shared"),
    [
        ("qwen3", {**SETTINGS, "head_dim": 8}, True),
        ("gpt2", GPT2, True),
        pytest.param("gpt_neox", NEOX, True, marks=pytest.mark.slow),
        ("gemma3_text", {**GEMMA, "sliding_window": 43}, True),  # 34 tokens of a prompt, 8 of an answer
        ("gemma3_text", {**GEMMA, "sliding_window": 42}, False),
        ("gpt_neo", {**LOCAL, "window_size": 8, "initializer_range": 0.4}, False),
        pytest.param("bloom", BLOOM, False, marks=pytest.mark.slow),
    ],
)
def test_a_prefix_is_shared_by_architectures_that_allow_it(tmp_path, shapes, architecture, of_model, is_shared):
    attention = "eager" if architecture in ("bloom", "gpt_neo") else "sdpa"
    made = Decoder(weights=Random(architecture=architecture, settings=of_model), attention=attention)
    model = made.load(made.load_tokenizer(tmp_path), tmp_path).model
    expected = one_by_one(model, PROMPTS, 8, STOPS)
    seen = shapes(model)
    assert Generation(max_new_tokens=8).generate_ids(model, PROMPTS, STOPS, 258) == expected
    assert (seen[0] == (1, len(PREFIX))) == is_shared


def test_a_model_that_has_read_packed_rows_shares_prefixes_too(model, shapes):
    expected = one_by_one(model, PROMPTS, 8, STOPS)
    model.set_attn_implementation(packed_attention.NAME)
    seen = shapes(model)
    assert Generation(max_new_tokens=8).generate_ids(model, PROMPTS, STOPS, 258) == expected
    assert seen[0] == (1, len(PREFIX))


@pytest.mark.slow
def test_several_samples_of_a_prompt_share_all_of_it(model, shapes):
    generation = Generation(max_new_tokens=6, do_sample=True, temperature=1.5)
    prompts = [prompt for prompt in PROMPTS for _ in range(4)]
    seeds = list(range(52))
    seen = shapes(model)
    found = generation.generate_ids(model, prompts, STOPS, 258, seeds)
    assert seen[:3] == [(1, len(PREFIX)), (13, max(map(len, PROMPTS)) - len(PREFIX) - 1), (52, 1)]
    assert found == [generation.generate_ids(model, [prompts[i]], STOPS, 258, [i])[0] for i in seeds]
    different = [[i, *prompt] for i in range(5) for prompt in [PREFIX] * 5]  # only the samples share tokens
    seen.clear()
    found = generation.generate_ids(model, different, STOPS, 258, seeds[:25])
    assert seen[:2] == [(5, len(PREFIX)), (25, 1)]
    assert found == [generation.generate_ids(model, [different[i]], STOPS, 258, [i])[0] for i in seeds[:25]]


def test_adapters_take_part_in_a_shared_prefix_and_virtual_tokens_prevent_it(model, shapes):
    adapted = LoRA(r=4).apply(LoadedModel(model=model, tokenizer=None, family="decoder")).model
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    expected = one_by_one(adapted.eval(), PROMPTS, 8, STOPS)
    seen = shapes(model)
    generation = Generation(max_new_tokens=8)
    assert generation.generate_ids(adapted, PROMPTS, STOPS, 258) == expected
    assert seen[0] == (1, len(PREFIX))
    with adapted.disable_adapter():
        assert generation.generate_ids(adapted, PROMPTS, STOPS, 258) != expected
    plain = LoadedModel(model=adapted.unload(), tokenizer=None, family="decoder")
    virtual = PromptTuning(num_virtual_tokens=3, init="random").apply(plain).model
    seen.clear()
    generation.generate_ids(virtual, PROMPTS, STOPS, 258)
    assert (1, len(PREFIX)) not in seen
