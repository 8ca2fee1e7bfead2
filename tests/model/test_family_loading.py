"""Every family: trains, is saved and read back, and what cannot be loaded is refused in one paragraph."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from instruct_lab.errors import InstructLabError
from instruct_lab.model import GGUF, Decoder, Encoder, EncoderDecoder, LocalFolder, Random
from instruct_lab.model.family import family_of

SIZES = {
    "llama": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    },
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0},
    "bart": {
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "max_position_embeddings": 64,
        "dropout": 0.0,
    },
    "bert": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
}
CLASSES = {"llama": Decoder, "t5": EncoderDecoder, "bart": EncoderDecoder, "bert": Encoder}
KINDS = [("llama", Decoder), ("t5", EncoderDecoder), ("bert", Encoder)]
IDS = torch.tensor([[5, 6, 7, 8, 9], [40, 41, 42, 43, 44]])  # [rows, seq]


def random_one(architecture, **fields):
    return CLASSES[architecture](weights=Random(architecture=architecture, settings=SIZES[architecture]), **fields)


def load(made, cache, head="language"):
    return made.load(made.load_tokenizer(cache), cache, head).model


def saved(architecture, folder, head="language"):
    """A folder of the family, and the model in it."""
    made = random_one(architecture)
    tokenizer = made.load_tokenizer(folder)
    model = made.load(tokenizer, folder, head).model
    model.save_pretrained(folder / "saved")
    tokenizer.save_pretrained(folder / "saved")
    return folder / "saved", model


def local(kind, folder, **fields):
    return kind(weights=LocalFolder(path=str(folder)), **fields)


def loss(model):
    return model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=IDS).loss


@pytest.mark.parametrize("architecture", SIZES)
def test_a_step_on_random_weights_lowers_the_loss(architecture, tmp_path):
    model = load(random_one(architecture), tmp_path).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    before = loss(model)
    before.backward()
    optimizer.step()
    assert torch.isfinite(before)
    assert loss(model) < before


@pytest.mark.parametrize("architecture", SIZES)
def test_a_saved_folder_gives_the_same_model_and_tokenizer(architecture, tmp_path):
    folder, model = saved(architecture, tmp_path)
    made = local(CLASSES[architecture], folder)
    tokenizer = made.load_tokenizer(tmp_path)
    again = made.load(tokenizer, tmp_path).model
    assert family_of(again) == made.family
    torch.testing.assert_close(loss(again), loss(model), rtol=0, atol=0)
    text = "a tag <mask> [MASK] <extra_id_3> é\n"
    assert tokenizer(text)["input_ids"] == random_one(architecture).load_tokenizer(tmp_path)(text)["input_ids"]


# ---- another family


@pytest.mark.parametrize(
    ("architecture", "kind", "right"),
    [
        ("bart", Decoder, "EncoderDecoder"),
        ("bart", Encoder, "EncoderDecoder"),
        ("bert", Decoder, "Encoder"),
        ("bert", EncoderDecoder, "Encoder"),
        ("llama", Encoder, "Decoder"),
        ("llama", EncoderDecoder, "Decoder"),
    ],
)
def test_a_model_of_another_family_is_refused_and_its_class_named(architecture, kind, right, tmp_path):
    folder, _ = saved(architecture, tmp_path)
    with pytest.raises(InstructLabError, match=rf"instruct_lab\.model\.{right},"):
        load(local(kind, folder), tmp_path)
    weights = Random(architecture=architecture, settings=SIZES[architecture])
    with pytest.raises(InstructLabError, match=rf"instruct_lab\.model\.{right},"):
        load(kind(weights=weights), tmp_path)


def test_an_encoder_that_was_made_a_decoder_is_one(tmp_path):
    settings = {**SIZES["bert"], "is_decoder": True}
    model = load(Decoder(weights=Random(architecture="bert", settings=settings)), tmp_path)
    assert not torch.equal(model(IDS).logits[:, 0], model(IDS.flip(1)).logits[:, 0])
    changed = IDS.clone()
    changed[:, -1] = 1
    torch.testing.assert_close(model(IDS).logits[:, :-1], model(changed).logits[:, :-1])


def test_the_family_is_seen_through_an_adapter(tmp_path):
    import peft

    for architecture, kind in KINDS:
        model = load(random_one(architecture), tmp_path)
        adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules="all-linear"))
        assert family_of(adapted) == kind.family


@pytest.mark.parametrize("kind", [Encoder, EncoderDecoder])
def test_a_gguf_file_is_refused_before_it_is_read(kind, tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    made = kind(weights=GGUF(path=str(tmp_path / "a.gguf")))
    with pytest.raises(InstructLabError, match="GGUF file holds a decoder"):
        made.load(random_one("bert").load_tokenizer(tmp_path), tmp_path)


def test_a_score_of_a_gguf_file_does_not_spoil_its_kept_conversion(write_gguf, tmp_path):
    file, kept = write_gguf("smollm")
    made = Decoder(weights=GGUF(path=str(file)))
    tokenizer = made.load_tokenizer(tmp_path)
    assert made.load(tokenizer, tmp_path, "score").new_modules == ("score",)
    model = made.load(tokenizer, tmp_path).model
    embeddings = torch.from_numpy(kept["token_embd.weight"])
    assert torch.equal(model.get_output_embeddings().weight, embeddings)


# ---- the head that gives a score


@pytest.mark.parametrize(("architecture", "new"), [("llama", ("score",)), ("bert", ("classifier", "pooler"))])
def test_a_new_head_is_drawn_alike_and_moves_no_random_state(architecture, new, tmp_path):
    folder, _ = saved(architecture, tmp_path)
    made = local(CLASSES[architecture], folder)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    loaded = made.load(made.load_tokenizer(tmp_path), tmp_path, "score")
    first = loaded.model
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = load(made, tmp_path, "score")
    assert loaded.new_modules == new
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits.shape == (2, 1)


def test_a_trained_head_and_pooler_are_read_and_the_pooler_is_not_new(tmp_path):
    folder, model = saved("bert", tmp_path, "score")
    made = local(Encoder, folder)
    loaded = made.load(made.load_tokenizer(tmp_path), tmp_path, "score")
    again = loaded.model
    assert loaded.new_modules == ("classifier",)
    assert torch.equal(again.classifier.weight, model.classifier.weight)
    assert torch.equal(again.bert.pooler.dense.weight, model.bert.pooler.dense.weight)


def test_weights_that_lack_more_than_the_head_are_refused_for_a_score_too(tmp_path):
    folder, _ = saved("bert", tmp_path)
    state = load_file(folder / "model.safetensors")
    del state["bert.encoder.layer.1.output.dense.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InstructLabError, match=r"lack 1 .*layer\.1\.output"):
        load(local(Encoder, folder), tmp_path, "score")


# ---- what generation keeps


def test_what_starts_and_forbids_text_is_kept_and_the_checkpoint_s_taste_is_not(tmp_path):
    folder, _ = saved("bart", tmp_path)
    own = {"decoder_start_token_id": 2, "forced_bos_token_id": 7, "forced_eos_token_id": 257, "bad_words_ids": [[256]]}
    (folder / "generation_config.json").write_text(json.dumps({**own, "num_beams": 6, "max_length": 99}))
    config = load(local(EncoderDecoder, folder), tmp_path).generation_config
    assert {name: getattr(config, name) for name in own} == own
    assert (config.num_beams, config.max_length) == (None, None)


# ---- gradient checkpointing


@pytest.mark.parametrize("architecture", SIZES)
@pytest.mark.parametrize("adapted", [False, True])
def test_gradient_checkpointing_changes_no_gradient_with_frozen_embeddings_too(architecture, adapted, tmp_path):
    import peft

    found = []
    for on in (False, True):
        model = load(random_one(architecture, gradient_checkpointing=on), tmp_path)
        torch.manual_seed(0)
        if adapted:
            layers = peft.LoraConfig(target_modules="all-linear", init_lora_weights=False)
            model = peft.get_peft_model(model, layers)
        calls = []
        inner = next(m for m in model.modules() if type(m).__name__.endswith(("Attention", "SelfAttention")))
        inner.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        model.train()
        loss(model).backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        assert len(calls) == (2 if on else 1), "computed again in the backward pass"
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=name)


# ---- pickles and code


@pytest.mark.parametrize(("architecture", "kind"), KINDS)
def test_pickled_weights_are_refused_for_every_family_unless_allowed(architecture, kind, tmp_path):
    folder, model = saved(architecture, tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(InstructLabError, match=r"pickled.*allow_pickle=true"):
        load(local(kind, folder), tmp_path)
    again = load(local(kind, folder, allow_pickle=True), tmp_path)
    torch.testing.assert_close(loss(again), loss(model), rtol=0, atol=0)


class Attack:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize(("architecture", "kind"), KINDS)
def test_an_allowed_pickle_may_hold_tensors_alone(architecture, kind, tmp_path):
    folder, model = saved(architecture, tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({**model.state_dict(), "more": Attack(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(InstructLabError, match="cannot be loaded"):
        load(local(kind, folder, allow_pickle=True), tmp_path)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Attack(tmp_path / "ran"))).close()
    assert (tmp_path / "ran").exists(), "the attack works where pickles are simply read"


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "kind"), KINDS)
def test_code_that_comes_with_the_weights_runs_only_where_it_is_trusted(architecture, kind, tmp_path, monkeypatch):
    import transformers.dynamic_module_utils

    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    folder, _ = saved(architecture, tmp_path)
    tokenizer = random_one(architecture).load_tokenizer(tmp_path)
    code = "from pathlib import Path\nfrom transformers import PreTrainedConfig\n"
    code += f"Path({str(tmp_path / 'ran')!r}).touch()\n\n\nclass Own(PreTrainedConfig):\n    model_type = 'own'\n"
    (folder / f"configuration_{architecture}_own.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": f"configuration_{architecture}_own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    made = local(kind, folder)
    assert not made.runs_remote_code
    with pytest.raises(InstructLabError, match=r"model\.trust_remote_code=true"):
        made.load(tokenizer, tmp_path)
    assert not (tmp_path / "ran").exists()
    trusting = local(kind, folder, trust_remote_code=True)
    assert trusting.runs_remote_code
    with pytest.raises(InstructLabError):  # its model class is not there
        trusting.load(tokenizer, tmp_path)
    assert (tmp_path / "ran").exists()
