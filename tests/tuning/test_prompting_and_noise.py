"""Prompting without training, noise on embeddings, virtual tokens: what each setting does."""

import copy

import pytest
import torch
import transformers
from pydantic import ValidationError

from instruct_lab.data import Conversation, Message
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment.matrix import component_of
from instruct_lab.generation import Generation
from instruct_lab.model import Decoder, Random
from instruct_lab.tuning import BitFit, Freeze, HeadOnly, LoRA, PrefixTuning, Prompting, PromptTuning, PTuning
from instruct_lab.tuning.noise import add_embedding_noise


def asked(prompt, answer="a"):
    return Conversation((Message("user", prompt), Message("assistant", answer)), prompt)


SHOWN = [
    asked(f"what is the {word}", f"it is {word}") for word in ("red fox", "blue sea", "green hill", "old red barn")
]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    settings = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    chosen = Decoder(weights=Random(architecture="llama", settings={**settings, "tie_word_embeddings": True}))
    return chosen.load(chosen.load_tokenizer(cache), cache)


@pytest.fixture
def model(loaded):
    return copy_of(loaded)


def copy_of(loaded):
    return loaded.with_model(copy.deepcopy(loaded.model))


# ---- prompting


def test_zero_shots_change_nothing_and_an_instruction_stands_before_everything():
    question = asked("what is the moon")
    assert Prompting().prompts([question], SHOWN) == [question]
    (prompted,) = Prompting(instruction="Be brief.").prompts([question], SHOWN)
    assert prompted.messages == (Message("system", "Be brief."), *question.messages)
    own = Conversation((Message("system", "You are X."), *question.messages), "x")
    (prompted,) = Prompting(instruction="Be brief.").prompts([own], SHOWN)
    assert prompted.messages[0] == Message("system", "Be brief.\n\nYou are X.")


def test_shots_are_earlier_turns_the_same_for_every_prompt():
    first, second = Prompting(shots=2).prompts([asked("one"), asked("two")], SHOWN)
    assert [message.role for message in first.messages] == ["user", "assistant"] * 3
    assert first.messages[:4] == second.messages[:4]
    assert first.messages[-2:] == asked("one").messages
    assert Prompting(shots=2, seed=1).prompts([asked("one")], SHOWN)[0].messages != first.messages


def test_an_example_that_asks_the_same_is_never_shown():
    for choose in ("seed", "similar"):
        for question in SHOWN:
            (prompted,) = Prompting(shots=3, choose=choose).prompts([question], SHOWN)
            contents = [message.content for message in prompted.messages]
            assert contents.count(question.messages[0].content) == 1


def test_the_most_similar_example_stands_nearest():
    (prompted,) = Prompting(shots=2, choose="similar").prompts([asked("paint the red barn")], SHOWN)
    assert [message.content for message in prompted.messages[::2]] == [
        "what is the red fox",
        "what is the old red barn",
        "paint the red barn",
    ]


def test_too_few_examples_are_refused():
    with pytest.raises(InstructLabError, match="4 single-turn examples"):
        Prompting(shots=4).prompts([asked("one")], SHOWN)


def test_settings_without_effect_are_refused():
    for settings in ({"choose": "similar"}, {"neftune_alpha": 5.0}):
        with pytest.raises(ValidationError):
            Prompting(**settings)


# ---- noise


def test_noise_is_bounded_by_alpha_and_drawn_only_in_training(model):
    ids = torch.tensor([[1, 2, 3, 4]])
    model = model.model
    plain = model.get_input_embeddings()(ids)
    add_embedding_noise(model, 5.0)
    assert torch.equal(model.eval().get_input_embeddings()(ids), plain)
    noise = model.train().get_input_embeddings()(ids) - plain
    bound = 5.0 / (4 * 16) ** 0.5
    assert 0.8 * bound < float(noise.abs().max()) <= bound
    assert not torch.equal(model.get_input_embeddings()(ids) - plain, noise), "drawn again"


# ---- what trains


def trained(loaded):
    return {name for name, parameter in loaded.model.named_parameters() if parameter.requires_grad}


def test_layers_are_chosen_by_number_from_either_end_by_pattern_and_embeddings(model):
    def layers(**settings):
        return {name.split(".")[2] for name in trained(Freeze(**settings).apply(copy_of(model)))}

    assert layers(first_layers=1) == {"0"}
    assert layers(last_layers=2) == {"1", "2"}
    assert layers(pattern=r"layers\.1\.mlp") == {"1"}
    assert trained(Freeze(embeddings=True).apply(copy_of(model))) == {"model.embed_tokens.weight"}
    with pytest.raises(InstructLabError, match="has 3 layers"):
        Freeze(last_layers=4).apply(model)
    with pytest.raises(InstructLabError, match="No parameter's name"):
        Freeze(pattern="nothing").apply(model)


def test_a_model_without_biases_is_refused_by_bias_only_tuning(model):
    with pytest.raises(InstructLabError, match="no biases"):
        BitFit().apply(model)


def test_a_tied_projection_gets_weights_of_its_own(model):
    before = model.model.get_output_embeddings().weight.detach().clone()
    assert trained(HeadOnly().apply(model)) == {"lm_head.weight"}
    assert torch.equal(model.model.get_output_embeddings().weight, before)
    assert model.model.get_input_embeddings().weight is not model.model.get_output_embeddings().weight


@pytest.mark.slow
def test_virtual_tokens_start_from_what_is_asked(model):
    embeddings = model.model.get_input_embeddings().weight.detach().clone()

    def virtual(**settings):
        adapted = PromptTuning(num_virtual_tokens=5, **settings).apply(copy_of(model))
        return adapted.model.prompt_encoder["default"].embedding.weight.detach()

    ids = model.tokenizer("ab", add_special_tokens=False)["input_ids"]
    assert torch.equal(virtual(init="text", init_text="ab"), embeddings[torch.tensor([*ids, *ids, ids[0]])])
    ordinary = embeddings[[n for n in range(len(embeddings)) if n not in model.tokenizer.all_special_ids]]
    for row in [row for _ in range(60) for row in virtual(init="vocabulary")]:
        assert (ordinary == row).all(dim=1).any()
    assert not any((embeddings == row).all(dim=1).any() for row in virtual(init="random"))
    with pytest.raises(ValidationError):
        PromptTuning(init="text")


def test_lora_s_second_matrix_can_learn_faster():
    assert LoRA(lr_ratio=16.0).learning_rate_factor("x.lora_B.default.weight") == 16
    assert LoRA(lr_ratio=16.0).learning_rate_factor("x.lora_A.default.weight") == 1
    assert LoRA().learning_rate_factor("x.lora_B.default.weight") == 1


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_adapter_that_changes_the_frozen_weights_fits_the_base_model(model, init, tmp_path):
    batch = {"input_ids": torch.tensor([[1, 2, 3, 4, 5]])}
    method = LoRA(r=4, alpha=8.0, init=init)
    plain = model.model(**batch).logits.detach()
    tuned = method.apply(copy_of(model))
    torch.testing.assert_close(tuned.model(**batch).logits, plain, rtol=1e-4, atol=1e-5)
    for name, parameter in tuned.model.named_parameters():
        if "lora_" in name:
            parameter.data += 0.05
    method.save(tuned, tmp_path)
    again = method.load(copy_of(model), tmp_path).model
    torch.testing.assert_close(again(**batch).logits, tuned.model(**batch).logits, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(again(**batch).logits, plain, atol=1e-3)


# ---- what leaves the house


EXPORTED = {
    "tiny_random": "AutoModelForCausalLM",
    "tiny_encoder_decoder": "AutoModelForSeq2SeqLM",
    "tiny_bart": "AutoModelForSeq2SeqLM",
    "tiny_encoder": "AutoModelForMaskedLM",
}


@pytest.mark.parametrize("option", EXPORTED)
def test_an_exported_projection_of_its_own_gives_the_same_outputs(option, tmp_path):
    chosen = component_of("model", option)
    loaded = chosen.load(chosen.load_tokenizer(tmp_path), tmp_path)
    model = loaded.model
    batch = {"input_ids": torch.tensor([[5, 6, 7, 8]])}
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = torch.tensor([[1, 9, 10]])
    plain = model(**batch).logits.detach()
    tuned = HeadOnly().apply(loaded).model.eval()
    torch.testing.assert_close(tuned(**batch).logits, plain, rtol=1e-4, atol=1e-5)
    torch.manual_seed(0)
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn_like(parameter)
    changed = tuned(**batch).logits.detach()
    assert not torch.allclose(changed, plain, atol=1e-2)
    tuned.save_pretrained(tmp_path / "out")
    again = getattr(transformers, EXPORTED[option]).from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(again(**batch).logits, changed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("option", EXPORTED)
def test_noise_reaches_what_every_family_reads(option, tmp_path):
    chosen = component_of("model", option)
    model = chosen.load(chosen.load_tokenizer(tmp_path), tmp_path).model
    for module in model.modules():
        for name in ("p", "dropout", "activation_dropout", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    batch = {"input_ids": torch.tensor([[5, 6, 7, 8]])}
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = torch.tensor([[1, 9, 10]])
    plain = model.train()(**batch).logits.detach()
    torch.testing.assert_close(model(**batch).logits, plain)
    add_embedding_noise(model, 50.0)
    assert not torch.allclose(model(**batch).logits, plain, atol=1e-3)
    torch.testing.assert_close(model.eval()(**batch).logits, plain)


@pytest.mark.slow
@pytest.mark.parametrize("method", [PromptTuning, PTuning, PrefixTuning], ids=lambda method: method.__name__)
@pytest.mark.parametrize("option", ["tiny_random", "tiny_encoder_decoder", "tiny_bart"])
def test_answers_do_not_depend_on_what_is_asked_beside_them(option, method, tmp_path):
    chosen = component_of("model", option)
    loaded = chosen.load(chosen.load_tokenizer(tmp_path), tmp_path)
    torch.manual_seed(0)
    for parameter in loaded.model.parameters():
        parameter.data = 0.4 * torch.randn_like(parameter)  # answers that differ from position to position
    tuned = method(num_virtual_tokens=4).apply(loaded).model.eval()
    prompts = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 3, 12, 13], [20, 21, 22, 23, 24, 25]]
    generation = Generation(max_new_tokens=12)
    together = generation.generate_ids(tuned, prompts, [], 0)
    assert together == [generation.generate_ids(tuned, [prompt], [], 0)[0] for prompt in prompts]
    if option == "tiny_random":  # a random encoder-decoder says the same to everything
        assert len({tuple(answer) for answer in together}) > 1


def test_a_decoder_that_shares_its_encoder_s_layer_reads_no_noise(tmp_path):
    chosen = component_of("model", "tiny_encoder_decoder")
    model = chosen.load(chosen.load_tokenizer(tmp_path), tmp_path).model.train()
    layer = model.get_input_embeddings()
    model.get_encoder().set_input_embeddings(layer)
    model.get_decoder().set_input_embeddings(layer)
    add_embedding_noise(model, 50.0)
    read = []
    layer.register_forward_hook(
        lambda module, arguments, output: read.append(torch.equal(output, module.weight[arguments[0]]))
    )
    ids = torch.tensor([[1, 2, 3]])
    model(input_ids=ids, decoder_input_ids=ids)
    assert read == [False, True], "only the encoder's tokens have noise"
