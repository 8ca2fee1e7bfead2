"""`model.kernels`: fused GPU kernels are refused without a GPU or their package, and change one model only."""

import sys
import types

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from instruct_lab.batching import Batch
from instruct_lab.errors import InstructLabError
from instruct_lab.model import Decoder, Random, kernels
from instruct_lab.objective import Supervised


def llama(**more):
    torch.manual_seed(0)
    config = LlamaConfig(
        **{"vocab_size": 41, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, **more},
        num_attention_heads=2,
    )
    return LlamaForCausalLM(config)


@pytest.fixture
def packages(monkeypatch):
    """Stand-ins for the packages, which compute with torch; gives the calls of the cross-entropy."""
    calls = []

    def linear_cross_entropy(e, c, targets, reduction, filter_eps):
        assert (reduction, filter_eps) == ("none", None)
        calls.append((tuple(e.shape), tuple(c.shape)))
        return functional.cross_entropy((e @ c.T).float(), targets, reduction="none")

    class Norm(modeling_llama.LlamaRMSNorm):
        pass

    def apply(model, rope=True, cross_entropy=False, fused_linear_cross_entropy=True, rms_norm=True):
        assert not any([rope, cross_entropy, fused_linear_cross_entropy])
        modeling_llama.LlamaRMSNorm = Norm
        model.model.norm.__class__ = Norm

    def apply_to_instance(model, **settings):
        apply(model, **{name: value for name, value in settings.items() if name != "layer_norm"})

    cut = types.ModuleType("cut_cross_entropy")
    cut.linear_cross_entropy = linear_cross_entropy
    liger, transformers, patches = map(
        types.ModuleType, ("liger_kernel", "liger_kernel.transformers", "liger_kernel.transformers.monkey_patch")
    )
    transformers._apply_liger_kernel_to_instance = apply_to_instance
    patches.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": apply}
    for module in (cut, liger, transformers, patches):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def batch():
    ids = torch.arange(24).reshape(2, 12) + 3
    return Batch(ids, torch.ones_like(ids), ids.clone())


def loss_and_gradients(model, objective):
    model.zero_grad()
    loss = objective.loss(model, batch())
    loss.sums.sum().backward()
    return loss.sums.detach(), [p.grad.clone() for p in model.parameters()]


def test_the_cross_entropy_of_the_package_is_that_of_all_logits(packages):
    model = llama().train()
    expected = loss_and_gradients(model, Supervised())
    kernels.use_kernels(model, "cut_cross_entropy")
    found = loss_and_gradients(model, Supervised())
    assert packages == [((22, 16), (41, 16))]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    loss_and_gradients(model, Supervised(z_loss=1e-3))
    assert len(packages) == 1, "the package has no z-loss"


def test_a_projection_with_a_bias_is_multiplied_by_torch(packages):
    model = llama(tie_word_embeddings=False)
    model.lm_head = torch.nn.Linear(16, 41)
    kernels.use_kernels(model, "cut_cross_entropy")
    loss_and_gradients(model, Supervised())
    assert packages == []


def test_liger_changes_one_model_and_no_class(packages):
    before = dict(vars(modeling_llama))
    model = llama()
    kernels.use_kernels(model, "liger")
    assert type(model.model.norm) is not modeling_llama.LlamaRMSNorm
    assert type(llama().model.norm) is before["LlamaRMSNorm"]
    assert vars(modeling_llama) == before


def test_an_architecture_without_kernels_is_named(packages):
    model = llama()
    model.config.model_type = "other"
    with pytest.raises(InstructLabError, match=r"architecture other.*model\.kernels"):
        kernels.use_kernels(model, "all")


@pytest.mark.parametrize(
    ("value", "packages"),
    [("liger", "liger-kernel"), ("cut_cross_entropy", "cut-cross-entropy"), ("all", "liger-kernel")],
)
def test_kernels_are_refused_with_what_is_missing(value, packages, monkeypatch):
    def reasons():
        return [problem.reason for problem in Decoder(weights=Random(), kernels=value).problems()]

    monkeypatch.setattr(kernels, "no_gpu", lambda: "there is no GPU here")
    [reason] = reasons()
    assert reason.startswith("computes only on a GPU, and there is no GPU here; needs the package")
    monkeypatch.setattr(kernels, "no_gpu", lambda: None)
    [reason] = reasons()
    assert packages in reason
    assert "instruct-lab[kernels]" in reason
    monkeypatch.setattr("instruct_lab.optional_packages.is_installed", lambda name: True)
    assert reasons() == []
