"""A model that does not fit into memory is refused before anything is allocated for it."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from support.hanging import no_hang

from instruct_lab import cli, memory
from instruct_lab.errors import InstructLabError
from instruct_lab.model import Decoder, LocalFolder, Random
from instruct_lab.model.facts import WITH_BIASES, WITHOUT_BIASES, least_parameters

SIZES = "model.weights.settings."
HUGE = {
    "wide layers": ["hidden_size=1000000", "intermediate_size=10000000"],
    "many layers": ["hidden_size=4096", "intermediate_size=16384", "num_hidden_layers=1000000"],
    "a large vocabulary": ["+{}vocab_size=10000000000000"],
}
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 300,
}


@pytest.mark.slow
@pytest.mark.parametrize("case", HUGE)
def test_random_weights_that_do_not_fit_are_refused_by_check_and_train(lab, tiny, capsys, case):
    settings = [text.format(SIZES) if "{" in text else SIZES + text for text in HUGE[case]]
    for command in ("check", "train"):
        with no_hang():
            assert cli.main([command, *tiny, *settings]) == 2
        printed = "".join(capsys.readouterr())
        assert "model.weights" in printed
        assert "GiB are free" in printed
        assert "bfloat16" in printed
    assert not (lab / "runs").exists()


def written(folder, **changes):
    """Write a small model, and change its config."""
    config = transformers.AutoConfig.for_model("llama", **SMALL)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    "changes", [{"num_hidden_layers": 10**9}, {"vocab_size": 10**13}, {"intermediate_size": 10**13}]
)
def test_a_folder_whose_config_claims_a_larger_model_is_refused(lab, tiny, capsys, changes):
    written(lab / "folder", **changes)
    assert cli.main(["check", *tiny[:1], "model=local_folder", "model.weights.path=folder"]) == 2
    printed = "".join(capsys.readouterr())
    assert "GiB are free" in printed


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        (
            "falcon",
            {"hidden_size": 1_048_576, "num_attention_heads": 64, "num_hidden_layers": 100},
        ),  # not known before the build
        ("mamba", {"hidden_size": 500_000, "num_hidden_layers": 1000}),
        ("llama", {**SMALL, "num_hidden_layers": 10**8}),  # small weights, but too many of them
    ],
)
def test_an_architecture_of_unknown_sizes_is_refused_before_memory_is_allocated(tmp_path, architecture, settings):
    model = Decoder(weights=Random(architecture=architecture, settings=settings))
    with no_hang(), pytest.raises(InstructLabError, match=r"GiB are free|more than 100,000 parameters"):
        model.load(model.load_tokenizer(tmp_path), tmp_path)


def test_a_model_of_very_many_small_tensors_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MAX_TENSORS", 100)
    settings = {**SMALL, "num_key_value_heads": 2, "num_hidden_layers": 90}
    model = Decoder(weights=Random(architecture="mixtral", settings=settings))
    with pytest.raises(InstructLabError, match="more than 100 parameters"):
        model.load(model.load_tokenizer(tmp_path), tmp_path)


def test_the_config_of_a_folder_is_checked_before_its_weights_are_read(tmp_path, monkeypatch):
    written(tmp_path / "folder")
    model = Decoder(weights=LocalFolder(path=str(tmp_path / "folder")))
    tokenizer = Random().load_tokenizer(tmp_path, False, "decoder")
    loaded = model.load(tokenizer, tmp_path).model
    numbers = sum(parameter.numel() for parameter in loaded.parameters())
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in loaded.buffers())
    for free, fits in ((4 * numbers + buffers, True), (4 * numbers + buffers - 1, False)):
        monkeypatch.setattr(memory, "free_memory", lambda free=free: free)
        if fits:
            model.load(tokenizer, tmp_path)
        else:
            with pytest.raises(InstructLabError, match="of memory"):
                model.load(tokenizer, tmp_path)
    monkeypatch.setattr(memory, "free_memory", lambda: 2 * numbers + buffers)
    Decoder(weights=LocalFolder(path=str(tmp_path / "folder")), dtype="bfloat16").load(tokenizer, tmp_path)


@pytest.mark.parametrize("has_gpu", [True, False])
def test_quantised_weights_are_read_to_the_gpu_if_there_is_one(tmp_path, monkeypatch, has_gpu):
    written(tmp_path)
    monkeypatch.setattr(memory, "free_memory", lambda: 1)
    monkeypatch.setattr("instruct_lab.model.hardware.no_gpu", lambda: None if has_gpu else "there is no GPU here")
    found = list(Decoder(weights=LocalFolder(path=str(tmp_path)), quantization="4bit").problems())
    assert any("of memory" in problem.reason for problem in found) != has_gpu


def test_an_adapter_beside_a_model_is_refused(tmp_path):
    written(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    model = Decoder(weights=LocalFolder(path=str(tmp_path)))
    with pytest.raises(InstructLabError, match=r"adapter_config\.json"):
        model.load(Random().load_tokenizer(tmp_path, False, "decoder"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted(WITH_BIASES | WITHOUT_BIASES))
def test_the_lower_bound_is_no_larger_than_the_model(architecture):
    config = transformers.AutoConfig.for_model(architecture)
    for auto in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForMaskedLM"):
        try:
            with torch.device("meta"):
                model = getattr(transformers, auto).from_config(config)
        except ValueError:  # the architecture has no such head
            continue
        numbers = sum(parameter.numel() for parameter in model.parameters())
        assert least_parameters(config.to_dict()) <= numbers
        return
    pytest.fail("no class builds this architecture")


def group(root, name, limit, used, cached, *, version):
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for file, value in zip(names, (limit, used), strict=True):
        (folder / file).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(
        f"anon 5\n{'inactive_file' if version == 2 else 'total_inactive_file'} {cached}\n"
    )


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        ((1000, 400, 100), ("max", 600, 0), 700),
        (("max", 400, 0), (900, 600, 50), 350),
        ((2000, 400, 0), (900, 600, 0), 300),
        ((300, 400, 0), (900, 600, 0), 0),
        (("max", 1, 0), ("max", 1, 0), 2048 * 1024),
    ],
)
def test_the_limits_of_every_control_group_count(tmp_path, monkeypatch, version, inner, outer, expected):
    root = tmp_path / "memory" if version == 1 else tmp_path
    group(root, "outer", *outer, version=version)
    group(root, "outer/inner", *inner, version=version)
    entry = "0::/outer/inner" if version == 2 else "4:memory:/outer/inner"
    for name, text in (("cgroup", f"9:cpu:/x\n{entry}\n"), ("meminfo", "MemTotal: 9 kB\nMemAvailable: 2048 kB\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "CGROUP_ROOT", tmp_path)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert memory.free_memory() == expected


def test_the_free_memory_of_this_machine_is_known():
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < memory.free_memory() <= total


LARGE_TUNINGS = {
    "lora": ["tuning=lora", "tuning.r=1000000000"],
    "vera": ["tuning=vera", "tuning.r=1000000000"],
    "prompt_tuning": ["tuning=prompt_tuning", "tuning.num_virtual_tokens=10000000000"],
}


@pytest.mark.slow
@pytest.mark.parametrize("overrides", LARGE_TUNINGS.values(), ids=LARGE_TUNINGS)
def test_added_parameters_that_do_not_fit_are_refused_before_they_are_created(lab, tiny, capsys, overrides):
    with no_hang():
        assert cli.main(["train", *tiny, *overrides, "evaluation.before=false"]) == 1
    assert "GiB of memory are free" in capsys.readouterr().err


@pytest.mark.slow
def test_a_saved_adapter_that_does_not_fit_is_refused(train, capsys):
    record = train("trainer.max_steps=2", "evaluation.before=false")
    for file in record.rglob("adapter_config.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "r": 10**9}))
    capsys.readouterr()
    assert cli.main(["generate", record.name, "hello"]) in (1, 2)
    printed = capsys.readouterr().err
    assert "adapter_config.json" in printed
    assert "GiB of memory are free" in printed


CREATED = {
    "empty": lambda: torch.nn.Linear(1000, 1000),
    "zeros": lambda: torch.zeros(10**6),
    "ones": lambda: torch.ones(1000, 1000),
    "full": lambda: torch.full((10**6,), 1.0),
    "rand": lambda: torch.rand(10**6),
    "randn": lambda: torch.randn(10, 10**5),
    "eye": lambda: torch.eye(1000),
    "a part of it": lambda: torch.eye(10**5, 10),
    "new_zeros": lambda: torch.ones(2).new_zeros((10**6,)),
    "several": lambda: [torch.empty(300_000) for _ in range(4)],
}


@pytest.mark.parametrize("create", CREATED.values(), ids=CREATED)
def test_tensors_that_do_not_fit_are_not_created(monkeypatch, create):
    monkeypatch.setattr(memory, "free_memory", lambda: 4 * 10**6 - 1)
    with pytest.raises(InstructLabError, match="would be created"), memory.limited_allocations("here"):
        create()
    monkeypatch.setattr(memory, "free_memory", lambda: 5 * 10**6)
    with memory.limited_allocations("here"):
        create()


def test_buffers_count_as_memory_of_a_model(tmp_path):
    settings = {"hidden_size": 16, "num_heads": 2, "max_position_embeddings": 10**6, "vocab_size": 300}
    model = Decoder(weights=Random(architecture="gpt_neo", settings=settings))  # each layer has a mask of positions
    with pytest.raises(InstructLabError, match="GiB are free"):
        model.load(model.load_tokenizer(tmp_path), tmp_path)
