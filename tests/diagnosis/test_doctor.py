"""The command `doctor`: what this machine has, and what cannot run here."""

import importlib.metadata
import json
import os
import sys

import pytest

from instruct_lab import cli, diagnosis
from instruct_lab.experiment.check import check
from instruct_lab.model import hardware


@pytest.fixture(scope="module")
def found():
    return diagnosis.diagnose()


@pytest.mark.slow
def test_versions_and_hardware_are_those_of_this_machine(found):
    import torch

    assert found["packages"]["torch"] == importlib.metadata.version("torch")
    assert found["problems"] == [], "the tests run with suitable packages"
    assert found["hardware"]["cpu_count"] == os.cpu_count()
    assert bool(found["hardware"]["gpus"]) == torch.cuda.is_available()
    capability = found["hardware"]["cpu_capability"]
    assert ("avx512" in found["hardware"]["cpu_instructions"]) == ("AVX512" in capability) or "AVX2" in capability


@pytest.mark.slow
def test_what_is_refused_is_what_check_refuses(found):
    assert "hydra/launcher=slurm" in found["refused"]
    for choice in found["refused"]:
        kinds = {problem.kind for problem in check([choice], settings_only=False).problems}
        assert "unavailable_here" in kinds, choice


@pytest.mark.slow
def test_what_is_not_listed_is_not_refused_for_this_machine(found):
    for choice in ("tuning=dora", "optimizer=adamw", "tracker=csv", "hydra/launcher=processes"):
        assert choice not in found["refused"]
        assert "unavailable_here" not in {problem.kind for problem in check([choice]).problems}


@pytest.mark.slow
def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch, capsys):
    version = importlib.metadata.version

    def without(name):
        if name.lower() in ("scipy", "peft", "hypothesis", "mkdocs"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0" if name == "transformers" else version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    assert cli.main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "peft is not installed" in text
    assert "transformers 1.0 is installed, and " in text
    assert "scipy: pip install 'instruct-lab[samplers]'" in text
    assert "instruct-lab[test]" not in text
    assert "instruct-lab[docs]" not in text


def test_a_package_that_cannot_be_imported_does_not_end_the_diagnosis(monkeypatch):
    for name in ("torch", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(diagnosis, "_refused", lambda: iter(()))
    found = diagnosis.diagnose()
    assert found["hardware"]["cpu_capability"] is None
    assert "huggingface" not in found["caches"]
    assert "versions" in diagnosis.render(found)


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["HF_TOKEN", "WANDB_API_KEY"])
def test_a_key_is_reported_and_its_value_is_not(variable, monkeypatch, capsys):
    monkeypatch.setenv(variable, "planted-value-of-a-key-4711")
    for arguments in (["doctor"], ["doctor", "--json"]):
        assert cli.main(arguments) == 0
        output = capsys.readouterr()
        assert "4711" not in output.out + output.err
    assert json.loads(output.out)["keys"][variable] is True


def test_sizes_of_caches_count_each_file(lab):
    (lab / "cache" / "deep").mkdir(parents=True)
    (lab / "cache" / "deep" / "a").write_bytes(b"x" * 1000)
    (lab / "cache" / "b").write_bytes(b"x" * 234)
    found = diagnosis._caches()["instruct_lab"]
    assert found["path"] == str(lab / "cache")
    assert found["bytes"] == 1234
    assert found["free_bytes"] > 0


def test_a_gpu_changes_the_precision_and_what_is_slow(monkeypatch):
    monkeypatch.setattr(diagnosis, "no_gpu", lambda: None)
    monkeypatch.setattr(diagnosis, "computes_bfloat16", lambda: True)
    monkeypatch.setattr(diagnosis, "_refused", lambda: iter(()))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    found = diagnosis.diagnose()
    assert found["precision"] == "bf16-mixed"
    assert not any("CPU" in text for text in found["slow"])
    assert hardware.no_gpu is not diagnosis.no_gpu


def test_options_that_are_based_on_another_option_are_refused_with_their_reason(monkeypatch):
    monkeypatch.setattr(hardware, "no_gpu", lambda: "there is no GPU here")
    refused = dict(diagnosis._refused())
    assert refused["trainer=gpu"] == "there is no GPU here"
    assert "GPU" in refused["optimizer=paged_adamw"]
    assert not {"trainer=auto", "trainer=cpu", "trainer=ddp"} & refused.keys()


def test_a_lab_is_shown_with_whether_its_code_may_run(lab, lab_code_allowed):
    assert diagnosis._lab() == {"path": str(lab), "code_allowed": True}
