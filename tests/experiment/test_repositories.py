"""Names of models and repositories that are no options are answered with the overrides that load them."""

import shlex

import pytest

from instruct_lab.experiment.check import check


def problem_of(*overrides):
    (problem,) = [one for one in check(list(overrides)).problems if one.key in ("model", "data")]
    return problem


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("gpt2", "repository"),
        ("meta-llama/Llama-3.2-1B", "repository"),
        ("EleutherAI/pythia-70m-deduped", "repository"),
        ("01-ai/Yi-6B", "repository"),
        ("./my model", "path"),
        ("/models/it's", "path"),
        ("weights.gguf", "path"),
    ],
)
def test_the_line_to_type_loads_the_model(lab, name, field):
    rest = ["data=mine", "tracker=none"]
    quoted = name.replace("'", "\\'")
    reason = problem_of(f"model='{quoted}'", *rest).reason
    line = reason.partition("to load it by name, type ")[2].partition(" (an encoder")[0]
    checked = check([*shlex.split(line), *rest])
    weights = checked.composition.config.model.weights
    assert weights[field] == name
    others = [problem.key for problem in checked.problems if problem.key != "model.weights.path"]
    assert not others, "only the file may be missing"


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
    for name, option in (("owner/name", "model=hub "), ("weights", "model=local_folder ")):
        (problem,) = check([f"base_model={name}", "tracker=none"]).problems
        assert problem.suggestion.startswith(option)
        assert problem.suggestion.endswith(f"={name}")
