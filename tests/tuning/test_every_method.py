"""What holds of every tuning option: new tokens are trained and kept or refused, and what is added is float32."""

import dataclasses

import pytest
import torch

from instruct_lab.config.options import options
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment.matrix import component_of
from instruct_lab.model import Tokenizer
from instruct_lab.tuning import Prompting

OPTIONS = [option.name for option in options("tuning")]
SMALLER = {"fourierft": {"n_frequency": 50}}
REFUSE_NEW_TOKENS = {"ia3", "oft", "boft", "vera", "fourierft", "prompt_tuning", "prompt_tuning_text", "p_tuning"}
REFUSE_NEW_TOKENS |= {"prefix_tuning"}


def method_of(option):
    return dataclasses.replace(component_of("tuning", option), **SMALLER.get(option, {}))


def loaded(cache, option, **fields):
    made = component_of("model", "tiny_bart" if option == "bitfit" else "tiny_random")  # one that has biases
    made = dataclasses.replace(made, **fields)
    return made.load(made.load_tokenizer(cache), cache)


def step(model, ids):
    """One optimizer step on a text."""
    inputs = {"input_ids": ids, "labels": ids}
    model.train()(**inputs).loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()


def rows_of(model, place):
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    layer = base.get_input_embeddings()
    return layer(torch.tensor([place])).detach()


@pytest.mark.parametrize("option", OPTIONS)
def test_new_tokens_train_and_are_kept_or_are_refused(option, tmp_path):
    method, grown = method_of(option), {"tokenizer": Tokenizer(extra_tokens=["<new>"])}
    plain = loaded(tmp_path, option, **grown)
    (number,) = plain.added_token_ids
    before = rows_of(plain.model, number)
    if option in REFUSE_NEW_TOKENS:
        with pytest.raises(InstructLabError, match=r"1 new tokens.*untrained"):
            method.apply(plain)
        return
    torch.manual_seed(0)
    tuned = method.apply(plain)
    if isinstance(method, Prompting):
        return
    step(tuned.model, torch.tensor([[5, number, 6, number, 7]]))
    after = rows_of(tuned.model, number)
    assert not torch.equal(before, after), "trained"
    method.save(tuned, tmp_path / "saved")
    again = method.load(loaded(tmp_path, option, **grown), tmp_path / "saved")
    torch.testing.assert_close(rows_of(again.model, number), after)


@pytest.mark.parametrize("head", ["language", "score"])
@pytest.mark.parametrize("option", [name for name in OPTIONS if component_of("tuning", name).is_adapter])
def test_what_is_added_is_float32_beside_narrow_weights(option, head, tmp_path):
    made = dataclasses.replace(component_of("model", "tiny_random"), dtype="bfloat16")
    method = method_of(option)
    tuned = method.apply(made.load(made.load_tokenizer(tmp_path), tmp_path, head))
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
    again = method.load(made.load(made.load_tokenizer(tmp_path), tmp_path, head), tmp_path / "saved")
    rounded = {"rtol": 0.05, "atol": 5e-3} if option in ("pissa", "olora") else {}  # what they took out of the weights
    torch.testing.assert_close(again.model.eval()(**inputs).logits, after, **rounded)
    if method.mergeable:
        merged = method.merge(again).model(**inputs).logits
        torch.testing.assert_close(merged.float(), after.float(), rtol=0.1, atol=0.1)
