"""What cannot run on this machine is refused by name before anything is loaded."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from instruct_lab.errors import InstructLabError
from instruct_lab.model import Decoder, Quantization, Random, hardware

SIZE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
TINY = Decoder(weights=Random(settings=SIZE))


@pytest.fixture
def machine(monkeypatch):
    """Sets why there is no GPU (none: there is one) and which packages are missing."""

    def have(no_gpu, missing=(), versions=()):
        found, known = importlib.util.find_spec, dict(versions)
        real = importlib.metadata.version
        monkeypatch.setattr(hardware, "no_gpu", lambda: no_gpu)
        monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n in missing else (found(n) or object()))
        monkeypatch.setattr(importlib.metadata, "version", lambda name: known.get(name) or real(name))

    return have


@pytest.mark.parametrize(
    ("fields", "no_gpu", "missing", "said"),
    [
        ({"attention": "flash_attention_2"}, None, ("flash_attn",), "flash_attn, which is not installed"),
        ({"attention": "flash_attention_2", "dtype": "bfloat16"}, "there is no GPU here", (), "there is no GPU here"),
        ({"attention": "flash_attention_2"}, None, (), "only in 16 bits"),
        ({"attention": "flash_attention_2", "dtype": "bfloat16"}, None, (), None),
        ({"attention": "flex_attention"}, "there is no GPU here", (), "there is no GPU here"),
        ({"attention": "flex_attention"}, None, (), None),
        ({"attention": "eager"}, "there is no GPU here", ("flash_attn",), None),
    ],
)
def test_attention_says_what_it_lacks(fields, no_gpu, missing, said, machine):
    machine(no_gpu, missing)
    problems = list(dataclasses.replace(TINY, **fields).problems())
    assert [problem.key for problem in problems] == ([] if said is None else ["attention"])
    assert said is None or said in problems[0].reason


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention"])
def test_attention_that_cannot_run_is_refused_at_loading_too(attention, machine, tmp_path):
    machine("there is no GPU here", ("flash_attn",))
    made = dataclasses.replace(TINY, attention=attention)
    with pytest.raises(InstructLabError, match=r"model\.attention"):
        made.load(made.load_tokenizer(tmp_path), tmp_path)


@pytest.mark.parametrize("quantization", ["8bit", "4bit", Quantization()])
def test_quantization_says_what_it_lacks(quantization, machine, tmp_path):
    made = dataclasses.replace(TINY, quantization=quantization)

    def reasons():
        own = quantization.problems() if isinstance(quantization, Quantization) else ()
        return [problem.reason for problem in (*made.problems(), *own)]

    machine("there is no GPU here", versions={"bitsandbytes": "0.48.1"})
    assert ["there is no GPU here" in reason for reason in reasons()] == [True]
    machine(None, versions={"bitsandbytes": "0.48.1"})
    assert reasons() == []
    machine("there is no GPU here", versions={"bitsandbytes": "0.50.0"})
    assert reasons() == []
    machine(None, missing=("bitsandbytes",))
    (reason,) = reasons()
    assert "bitsandbytes, which is not installed" in reason
    with pytest.raises(InstructLabError, match=r"bitsandbytes, which is not installed.*model\.quantization"):
        made.load(made.load_tokenizer(tmp_path), tmp_path)


def test_a_gpu_is_found_by_its_driver_unless_it_is_hidden_or_torch_is_built_for_the_cpu(monkeypatch):
    there = [Path("/dev/nvidia3")]
    monkeypatch.setattr(Path, "glob", lambda self, pattern: there if "nvidia" in pattern else [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0+cu130")
    assert hardware.has_gpu()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0+cpu")
    assert "2.13.0+cpu is built for the CPU" in hardware.no_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" in hardware.no_gpu()
    there.clear()
    assert hardware.no_gpu() == "there is no GPU here"
    assert not hardware.has_gpu()
