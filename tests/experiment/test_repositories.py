"""Names of models and repositories that are no options are answered with the overrides that load them."""

import shlex

import pytest

from instruct_lab.experiment.check import check


def problem_of(*overrides):
    (problem,) = [one for one in check(list(overrides)).problems if one.key in ("model", "data")]
    return problem


def line_for(group, name):
    """The line to type for a name that is no option."""
    quoted = name.replace("'", "\\'")
    reason = problem_of(f"{group}='{quoted}'", "tracker=none").reason
    return shlex.split(reason.partition("to use it by name, type ")[2])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "meta-llama/Llama-3.2-1B", "EleutherAI/pythia-70m-deduped", "01-ai/Yi-6B"])
def test_the_line_to_type_names_the_repository(lab, name):
    line = line_for("model", name)
    assert line == [f"model=hub:{name}"]
    assert "HF_HUB_OFFLINE" in problem_of(*line, "tracker=none").reason


@pytest.mark.slow
@pytest.mark.parametrize("name", ["./my model", "{lab}/it's", "weights.gguf", "mine"])
def test_the_line_to_type_loads_the_folder_or_file(lab, name):
    path = lab / name.format(lab=lab)
    if path.suffix == ".gguf":
        path.write_bytes(b"GGUF")
    else:
        path.mkdir()
        (path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
        (path / "model.safetensors").write_bytes(b"")
    checked = check([*line_for("model", name.format(lab=lab)), "data=mine", "tracker=none"])
    assert checked.composition.config.model.weights.path == name.format(lab=lab)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rows.jsonl", "{lab}/rows.jsonl", "./rows.jsonl"])
def test_the_line_to_type_reads_the_file(lab, name):
    checked = check([*line_for("data", name.format(lab=lab)), "model=tiny_random", "tracker=none"])
    assert checked.problems == []
    assert checked.composition.config.data.train.file.path == name.format(lab=lab)


@pytest.mark.parametrize(
    ("group", "name", "option"),
    [
        ("model", "meta-llama/Llama-3.2-1B-Instruct", "llama3_2_1b_hub"),
        ("model", "qwen/qwen3-0.6b", "qwen3_0_6b_hub"),
        ("data", "yahma/alpaca-cleaned", "alpaca_hub"),
    ],
)
def test_a_repository_that_an_option_pins_gives_that_option(lab, group, name, option):
    problem = problem_of(f"{group}={name}", "tracker=none")
    assert problem.suggestion == f"{group}={option}"


def test_a_misspelt_option_is_not_taken_for_a_repository(lab):
    problem = problem_of("model=smolm2_135m", "tracker=none")
    assert problem.suggestion == "smollm2_135m"
    assert "by name" not in problem.reason


def test_the_key_of_other_tools_takes_a_repository_or_a_folder(lab):
    (lab / "weights").mkdir()
    for name, option in (("owner/name", "model=hub:"), ("weights", "model=path:")):
        (problem,) = check([f"base_model={name}", "tracker=none"]).problems
        assert problem.suggestion == f"{option}{name}"
