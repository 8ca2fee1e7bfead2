"""`model.compile`: compiled layers compute what the layers compute, and are compiled once for all layers."""

import copy
import sys

import pytest
import torch
import transformers
from support.exhaustive import exhaustive
from torch._dynamo.utils import counters

from instruct_lab.errors import InstructLabError
from instruct_lab.model import Decoder, Random, compiling
from instruct_lab.model.checkpointing import checkpoint_gradients
from instruct_lab.objective.shared_prefix import obstacle

SMALL = {"vocab_size": 37, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "pad_token_id": 0}


@pytest.fixture(autouse=True)
def backend_without_compiler(monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def build(name="llama", layers=2, **more):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(name, **{**SMALL, "num_hidden_layers": layers, **more})
    return transformers.AutoModelForCausalLM.from_config(config).train()


def loss_and_gradients(model, length):
    model.zero_grad()
    ids = torch.arange(2 * length).reshape(2, length) % 30 + 1
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    loss = model(input_ids=ids, attention_mask=mask, labels=ids, use_cache=False).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def num_graphs():
    return counters["stats"]["unique_graphs"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [exhaustive("none"), "selective"])
def test_losses_and_gradients_are_those_of_the_layers(how):
    import peft

    lora = peft.LoraConfig(target_modules="all-linear", init_lora_weights=False)
    plain = peft.get_peft_model(build(layers=3), lora)
    compiled = copy.deepcopy(plain)
    checkpoint_gradients(compiled.get_base_model(), how)
    compiling.compile_layers(compiled)
    for length in (7, 12):
        loss, gradients = loss_and_gradients(plain, length)
        own_loss, own_gradients = loss_and_gradients(compiled, length)
        torch.testing.assert_close(own_loss, loss, rtol=1e-6, atol=1e-6)
        assert own_gradients.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(own_gradients[name], gradient, rtol=1e-5, atol=1e-7)
    assert 1 <= num_graphs() <= 2, "all layers and lengths share compiled code"


def test_evaluation_runs_the_layers_as_they_are_and_weights_keep_their_names():
    model = build()
    names = list(model.state_dict())
    compiling.compile_layers(model)
    assert list(model.state_dict()) == names
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        model.eval().generate(input_ids=ids, max_new_tokens=4)
    assert num_graphs() == 0


def test_compiled_layers_share_no_prefix():
    model = build()
    assert obstacle(model) is None
    compiling.compile_layers(model)
    assert "model.compile" in obstacle(model)
    assert obstacle(model.eval()) is None


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    def reasons():
        return [problem.reason for problem in Decoder(weights=Random(), compile=True).problems()]

    monkeypatch.setattr(compiling, "has_gpu", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "my-compiler -O2")
    [reason] = reasons()
    assert "my-compiler" in reason
    compiler = tmp_path / "my-compiler"
    compiler.write_text("")
    compiler.chmod(0o700)
    monkeypatch.setattr(compiling.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert "Python.h does not exist" in reasons()[0]
    (tmp_path / "Python.h").write_text("")
    assert reasons() == []
    monkeypatch.setattr(compiling, "has_gpu", lambda: True)
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setattr(compiling, "is_installed", lambda name: False)
    assert "pip install triton" in reasons()[0]


def test_a_model_without_separate_layers_is_refused():
    with pytest.raises(InstructLabError, match=r"cannot be compiled one by one.*model\.compile"):
        compiling.compile_layers(torch.nn.Linear(2, 2))
