"""Virtual tokens take part in decoding just as in training, whatever the architecture and its name of the cache."""

import copy

import pytest
import torch
from support.decoding import SETTINGS

from instruct_lab.errors import InstructLabError
from instruct_lab.generation import Generation
from instruct_lab.model import Decoder, Encoder, EncoderDecoder, Random
from instruct_lab.tuning import PrefixTuning, PromptTuning, PTuning
from instruct_lab.tuning.cache_names import cache_name

METHODS = [PrefixTuning(num_virtual_tokens=5), PromptTuning(num_virtual_tokens=5), PTuning(num_virtual_tokens=5)]
PROMPTS = [[(7 * row + 3 * position) % 250 for position in range(2 + 4 * row)] for row in range(4)]
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96, "initializer_range": 0.4}
BLOOM = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.4}
SLIDING = {
    "head_dim": 8,
    "tie_word_embeddings": False,
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention"],
}
DECODERS = {"llama": SETTINGS, "gpt2": GPT2, "bloom": BLOOM, "gemma3_text": {**SETTINGS, **SLIDING}}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "initializer_factor": 8.0}
BART = {
    **{
        f"{side}_{what}": number for side in ("encoder", "decoder") for what, number in (("layers", 2), ("ffn_dim", 64))
    },
    "d_model": 32,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "init_std": 0.4,
}


def adapted_to(method, chosen, cache):
    """The model with virtual tokens that are far from where they started, and the model without."""
    plain = chosen.load(chosen.load_tokenizer(cache), cache)
    adapted = method.apply(plain.with_model(copy.deepcopy(plain.model)))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in adapted.model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=3.0)
    adapted.model.eval()
    return adapted, plain


def generate_one(model, prompt, num_tokens):
    """The most likely tokens, each from a forward pass over all of the text: as in training, without a cache."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(num_tokens):
            batch = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
            ids.append(int(model(**batch).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def written(model, prompt, num_tokens):
    """The same of an encoder-decoder."""
    batch = {"input_ids": torch.tensor([prompt]), "attention_mask": torch.ones(1, len(prompt), dtype=torch.long)}
    ids = [model.config.decoder_start_token_id]
    with torch.no_grad():
        for _ in range(num_tokens):
            ids.append(int(model(**batch, decoder_input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[1:]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_a_decoder_answers_as_in_training(method, architecture, tmp_path):
    attention = "eager" if architecture == "bloom" else "sdpa"
    chosen = Decoder(weights=Random(architecture=architecture, settings=DECODERS[architecture]), attention=attention)
    adapted, plain = adapted_to(method, chosen, tmp_path)
    expected = [generate_one(adapted.model, prompt, 6) for prompt in PROMPTS]
    assert expected != [generate_one(plain.model, prompt, 6) for prompt in PROMPTS]
    generation = Generation(max_new_tokens=6)
    assert generation.generate_ids(adapted.model, PROMPTS, [], 258) == expected
    method.save(adapted, tmp_path / "saved")
    again = method.load(plain, tmp_path / "saved").model.eval()
    assert generation.generate_ids(copy.deepcopy(again), PROMPTS, [], 258) == expected


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["t5", "bart"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_an_encoder_decoder_writes_as_in_training(method, architecture, tmp_path):
    chosen = EncoderDecoder(weights=Random(architecture=architecture, settings=T5 if architecture == "t5" else BART))
    adapted, plain = adapted_to(method, chosen, tmp_path)
    expected = [written(adapted.model, prompt, 6) for prompt in PROMPTS]
    plain_answers = [written(plain.model, prompt, 6) for prompt in PROMPTS]
    assert expected != plain_answers
    generation = Generation(max_new_tokens=6)
    assert generation.generate_ids(adapted.model, PROMPTS, [], 258) == expected
    assert generation.generate_ids(plain.model, PROMPTS, [], 258) == plain_answers


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_beam_search_with_virtual_tokens_finds_what_a_full_search_finds(method, tmp_path):
    adapted, _ = adapted_to(method, Decoder(weights=Random(settings=SETTINGS)), tmp_path)
    prompt = PROMPTS[1]
    with torch.no_grad():
        first = adapted.model(input_ids=torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        batch = torch.tensor([[*prompt, token] for token in range(259)])
        second = adapted.model(input_ids=batch, attention_mask=torch.ones_like(batch)).logits[:, -1].log_softmax(-1)
    best = divmod(int((first[:, None] + second).argmax()), 259)
    assert Generation(max_new_tokens=2, num_beams=259).generate_ids(adapted.model, [prompt], [], 258) == [list(best)]


def test_keys_and_values_for_a_model_that_takes_none_are_refused(tmp_path):
    settings = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    chosen = Encoder(weights=Random(architecture="modernbert", settings=settings))
    model = chosen.load(chosen.load_tokenizer(tmp_path), tmp_path)
    assert cache_name(model.model) is None
    with pytest.raises(InstructLabError, match="takes no keys and values"):
        PrefixTuning().apply(model)
