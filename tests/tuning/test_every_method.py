"""Properties of every tuning option: new tokens are trained and saved or refused; added parameters are float32."""

import dataclasses

import pytest
import torch

from instruct_lab.config.options import options
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment.matrix import component_of
from instruct_lab.model import Tokenizer
from tests.support.small_methods import small_method

OPTIONS = [option.name for option in options("tuning")]
METHODS = {option: small_method(option) for option in OPTIONS}


def load_model(cache, method, head="language", **fields):
    with_biases = component_of("model", "tiny_bart" if method.needs_biases else "tiny_random")
    chosen = dataclasses.replace(with_biases, **fields)
    return chosen.load(chosen.load_tokenizer(cache), cache, head)


def step(model, ids):
    """One optimizer step on a text."""
    inputs = {"input_ids": ids, "labels": ids}
    model.train()(**inputs).loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()


def embedding_of(model, token):
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    layer = base.get_input_embeddings()
    return layer(torch.tensor([token])).detach()


@pytest.mark.slow
@pytest.mark.parametrize("option", [option for option, method in METHODS.items() if method.trains])
def test_new_tokens_are_trained_and_saved_or_refused(option, tmp_path):
    method, tokenizer = METHODS[option], Tokenizer(extra_tokens=["<new>"])
    loaded = load_model(tmp_path, method, tokenizer=tokenizer)
    (token,) = loaded.added_token_ids
    before = embedding_of(loaded.model, token)
    if not method.trains_new_tokens:
        with pytest.raises(InstructLabError, match=r"1 new tokens.*untrained"):
            method.apply(loaded)
        return
    torch.manual_seed(0)
    tuned = method.apply(loaded)
    step(tuned.model, torch.tensor([[5, token, 6, token, 7]]))
    after = embedding_of(tuned.model, token)
    assert not torch.equal(before, after)
    method.save(tuned, tmp_path / "saved")
    again = method.load(load_model(tmp_path, method, tokenizer=tokenizer), tmp_path / "saved")
    torch.testing.assert_close(embedding_of(again.model, token), after)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["language", "score"])
@pytest.mark.parametrize("option", [option for option, method in METHODS.items() if method.is_adapter])
def test_added_parameters_are_float32_in_a_model_of_bfloat16(option, head, tmp_path):
    method = METHODS[option]
    tuned = method.apply(load_model(tmp_path, method, head, dtype="bfloat16"))
    model = tuned.model
    trained = {name: p.dtype for name, p in model.named_parameters() if p.requires_grad}
    assert set(trained.values()) == {torch.float32}, trained
    assert {p.dtype for p in model.parameters() if not p.requires_grad} <= {torch.bfloat16, torch.float32}
    mask = torch.ones(1, 3, dtype=torch.long)
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": mask}
    model.train()(**inputs).logits.float().sum().backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    after = model.eval()(**inputs).logits
    method.save(tuned, tmp_path / "saved")
    again = method.load(load_model(tmp_path, method, head, dtype="bfloat16"), tmp_path / "saved")
    rounded = {"rtol": 0.05, "atol": 5e-3} if not method.keeps_base else {}  # the weights they changed are rounded
    torch.testing.assert_close(again.model.eval()(**inputs).logits, after, **rounded)
    if method.mergeable:
        merged = method.merge(again).model(**inputs).logits
        torch.testing.assert_close(merged.float(), after.float(), rtol=0.1, atol=0.1)
