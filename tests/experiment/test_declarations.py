"""What components declare of themselves, compared before anything is loaded."""

import subprocess
import sys

import pytest

from instruct_lab.commands.console import print_warnings
from instruct_lab.config.options import options
from instruct_lab.data import Alpaca, DataSet, Files, Mixture
from instruct_lab.experiment.check import check
from instruct_lab.experiment.matrix import component_of
from instruct_lab.experiment.rules.declarations import SUPERVISION, check_training_rows, suitable_learning_rate
from instruct_lab.objective import Objective, Supervised
from instruct_lab.tuning import Full, LoRA, Prompting

OPTIONS = [option.name for option in options("tuning")]
TRAINING = [name for name in OPTIONS if component_of("tuning", name).trains]


def problems(*overrides):
    return {problem.key: str(problem) for problem in check(list(overrides)).problems}


@pytest.mark.slow
@pytest.mark.parametrize("option", TRAINING)
def test_every_method_declares_a_learning_rate_and_a_run_takes_it(option):
    checked = check([f"tuning={option}"])
    rate = component_of("tuning", option).learning_rate_for(None)
    if not checked.problems:  # some methods do not go with the default model
        assert checked.resolved["optimizer"]["lr"] == checked.experiment.optimizer.lr == rate


def test_the_default_run_and_full_tuning_have_the_rates_of_the_readme():
    assert check([]).experiment.optimizer.lr == 2e-3
    assert check(["tuning=full"]).experiment.optimizer.lr == 2e-5


def test_a_set_learning_rate_is_kept():
    checked = check(["optimizer.lr=3e-4"])
    assert checked.experiment.optimizer.lr == checked.resolved["optimizer"]["lr"] == 3e-4
    assert not checked.warnings


@pytest.mark.slow
def test_optimizer_and_objective_scale_the_learning_rate():
    assert check(["optimizer=lion"]).experiment.optimizer.lr == 3e-4
    assert check(["optimizer=galore", "optimizer.scale=0.5", "tuning=full"]).experiment.optimizer.lr == 4e-5
    dpo, adamw = component_of("objective", "dpo"), component_of("optimizer", "adamw")
    smollm2 = component_of("model", "smollm2_135m")
    assert suitable_learning_rate(LoRA(), dpo, adamw, smollm2, "absent") == 1e-4
    assert suitable_learning_rate(Full(), dpo, adamw, smollm2, "absent") == 1e-6
    assert problems("optimizer=muon", "optimizer.scale=original")["optimizer.lr"].count("scale=original") == 1


@pytest.mark.parametrize(
    ("overrides", "ratio"),
    [(["tuning=full", "optimizer.lr=2e-3"], "100 times above"), (["optimizer.lr=2e-4"], "10 times below")],
)
def test_a_learning_rate_that_is_ten_times_off_is_reported_with_both_rates(overrides, ratio, capsys):
    checked = check(overrides)
    (warning,) = checked.warnings
    assert (warning.key, warning.refuses, checked.problems) == ("optimizer.lr", False, [])
    assert ratio in str(warning)
    print_warnings(checked.warnings)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "2e-05" in printed or "0.002" in printed


def test_rates_of_lora_fall_with_the_hidden_size():
    rates = [LoRA().learning_rate_for(size) for size in (None, 64, 576, 2048, 4096)]
    assert rates[0] == rates[1] == rates[2] == 2e-3
    assert rates[2] > rates[3] > rates[4] > 2e-4
    assert LoRA(lr_ratio=16.0).learning_rate_for(None) == 5e-4


def rate_warnings(overrides):
    """Return the warnings about the learning rate; others depend on the machine."""
    return [warning for warning in check(overrides).warnings if warning.key == "optimizer.lr"]


def test_the_width_of_the_model_decides_the_rate_of_lora():
    assert check(["model=smollm2_1_7b_hub"]).experiment.optimizer.lr == 7.4e-4
    wide = ["model=smollm2_1_7b_hub", "model.declared_facts=null"]
    (warning,) = rate_warnings(wide)
    assert "hidden size" in str(warning)
    assert not rate_warnings([*wide, "optimizer.lr=1e-3"])


def test_random_weights_have_a_rate_of_their_own_in_full_tuning():
    assert check(["model=tiny_random", "tuning=full"]).experiment.optimizer.lr == 1e-3


ENCODER = ["objective=masked", "metrics=masked", "template=contents"]


@pytest.mark.slow
@pytest.mark.parametrize(("tuning", "longest"), [("lora", 512), ("prompt_tuning", 492)])
def test_examples_are_limited_to_the_positions_of_the_model(tuning, longest):
    checked = check(["model=small_encoder", f"tuning={tuning}", *ENCODER])
    (warning,) = checked.warnings
    assert f"lowered to {longest}" in str(warning)
    assert checked.experiment.batching.max_tokens == checked.resolved["batching"]["max_tokens"] == longest
    shorter = check(["model=small_encoder", f"tuning={tuning}", *ENCODER, "batching.max_tokens=100"])
    assert (shorter.warnings, shorter.experiment.batching.max_tokens) == ([], 100)
    assert check([]).experiment.batching.max_tokens == 1024


def test_bias_tuning_needs_biases():
    assert "BitFit trains only biases, and the model has none" in problems("tuning=bitfit")["tuning"]
    assert "tuning" not in problems("tuning=bitfit", "model=bart_base_hub", "template=contents")


PACKED = ("batching=packed", "model=tiny_random")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "key", "reason"),
    [
        (("tuning=p_tuning",), "batching", "virtual tokens"),
        (("tuning.neftune_alpha=5",), "batching", "length of a row"),
        (("objective=reward", "data=local_preference", "data.train.file.path=x.jsonl"), "batching", "one score"),
        (("model.weights.architecture=mamba", "~model.weights.settings"), "batching", "a random mamba model"),
        (("model=tiny_encoder", *ENCODER, "model.attention=eager"), "model.attention", "attention of an encoder"),
        (("model=tiny_bart", "template=contents"), "batching", "model is an encoder-decoder"),
        (("batching.row_tokens=1000",), "batching.row_tokens", "must hold the longest example"),
    ],
)
def test_what_cannot_be_packed_is_refused(overrides, key, reason):
    assert reason in problems(*PACKED, *overrides)[key]


def test_what_can_be_packed_is_not_refused():
    assert problems(*PACKED, "batching.row_tokens=1024", "model.attention=eager") == {}
    assert problems("batching=packed", "model=tiny_encoder", *ENCODER) == {}


def test_a_method_without_a_rate_needs_one(monkeypatch):
    monkeypatch.setattr(Full, "learning_rate", None)
    assert "Full declares no learning rate" in problems("tuning=full")["optimizer.lr"]
    assert not problems("tuning=full", "optimizer.lr=1e-5")


@pytest.mark.slow
@pytest.mark.parametrize("option", TRAINING)
@pytest.mark.parametrize("field", ["extra_tokens", "extra_special_tokens"])
def test_new_tokens_are_refused_if_the_method_does_not_train_them(option, field):
    found = problems(f"tuning={option}", f"model.tokenizer.{field}=[twelve]")
    refused = f"model.tokenizer.{field}" in found
    assert refused is not component_of("tuning", option).trains_new_tokens


@pytest.mark.slow
def test_data_has_to_give_what_the_objective_needs():
    assert (
        "DPO needs pairs (a prompt with a chosen and a rejected answer); data is a DataSet with format Columns, which "
        "gives answers (a prompt with its answer): choose other data, such as data=local_preference, or another "
        "objective, such as objective=supervised"
    ) in problems("objective=dpo")["objective"]
    assert "objective" not in problems("objective=causal")


LABELLED = ["data=local_unpaired_preference", "data.train.file.path=rows.jsonl"]


@pytest.mark.slow
@pytest.mark.parametrize("option", [option.name for option in options("objective")])
def test_only_kto_learns_from_labels_and_the_others_name_both(option):
    found = problems(*LABELLED, f"objective={option}")
    if option == "kto":
        assert "objective" not in found
    else:
        needed = sorted(component_of("objective", option).needs)
        needs = " or ".join(f"{kind} ({SUPERVISION[kind].meaning})" for kind in needed)
        given = "a DataSet with format UnpairedPreference, which gives labels (an answer marked good or bad)"
        assert f"needs {needs}; data is {given}" in found["objective"]
        assert found["objective"].endswith("or another objective, such as objective=kto.")


@pytest.mark.slow
@pytest.mark.parametrize("kind", SUPERVISION)
def test_the_options_that_a_refusal_suggests_give_and_read_that_kind(kind):
    data = [f"data={SUPERVISION[kind].data}", "data.train.file.path=rows.jsonl"]
    assert "objective" not in problems(*data, f"objective={SUPERVISION[kind].objective}")
    given = {"pairs", "answers"} if kind == "pairs" else {kind}  # the chosen answer of a pair is an answer
    for other in SUPERVISION.values():
        found = problems(*data, f"objective={other.objective}")
        if given & component_of("objective", other.objective).needs:
            assert "objective" not in found
        else:
            assert f"data={other.data}" in found["objective"]


def test_a_mixture_is_refused_with_what_each_of_its_parts_gives():
    found = problems("data=mixture", "objective=dpo")["objective"]
    assert found.count("answers (a prompt with its answer)") > 1
    assert "data=local_preference" in found


def test_every_part_of_a_mixture_needs_training_rows():
    rows = {"x": Files(path="rows.jsonl")}
    trained, held_out = DataSet(train=rows, format=Alpaca()), DataSet(test=rows, format=Alpaca())
    mixed = Mixture(parts={"a": trained, "b": Mixture(parts={"c": held_out, "d": trained}), "e": None})
    assert [one.key for one in check_training_rows(mixed, LoRA())] == ["data.parts.b.parts.c.train"]
    assert [one.key for one in check_training_rows(held_out, LoRA())] == ["data.train"]
    assert not list(check_training_rows(trained, LoRA()))
    assert not list(check_training_rows(held_out, Prompting()))


def test_metrics_and_monitors_of_pairs_are_refused_for_labels():
    found = problems(*LABELLED, "objective=kto", "metrics=preference", "callbacks.checkpoint.monitor=val/margin")
    for name in ("accuracy", "margin"):
        assert "compares two answers to one prompt" in found[f"metrics.{name}"]
        assert "val/chosen_reward and val/rejected_reward" in found[f"metrics.{name}"]
    assert "no such value is logged" in found["callbacks.checkpoint.monitor"]
    pairs = ["data=local_preference", "data.train.file.path=rows.jsonl", "objective=kto", "metrics=preference"]
    found = problems(*pairs, "callbacks.checkpoint.monitor=val/margin")
    assert not {"metrics.accuracy", "metrics.margin", "callbacks.checkpoint.monitor", "objective"} & found.keys()


@pytest.mark.slow
@pytest.mark.parametrize("option", [option.name for option in options("objective")])
def test_objectives_of_pairs_need_pairs(option):
    objective = component_of("objective", option)
    assert isinstance(objective, Objective)
    assert (objective.needs == {"pairs", "labels"}) is (objective.reads == "labels")
    assert (objective.needs == {"pairs"}) is (objective.reads == "pairs")
    assert Supervised.needs <= objective.needs or "answers" not in objective.needs


@pytest.mark.slow
def test_refusals_load_no_torch():
    code = (
        "import sys; from instruct_lab.experiment.check import check; "
        "check(['tuning=ia3', 'model.tokenizer.extra_tokens=[x]', 'objective=dpo']); check(['tuning=bitfit']); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
