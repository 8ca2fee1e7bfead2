"""Every part of a run that can take long is reported as a stage, with a total where one is known."""

import pytest

from instruct_lab import cli
from instruct_lab.progress import Stage, reporter

SHORT = ["model=tiny_random", "data=mine", "tracker=none", "generation.max_new_tokens=4", "trainer=cpu"]


@pytest.fixture
def reported(monkeypatch):
    """Collect the stages that a command opens, with those around each of them."""
    opened = []

    def open_stage(self, stage):
        self.stages.append(stage)
        opened.append(list(self.stages))

    monkeypatch.setattr(reporter.Reporter, "open", open_stage)
    return opened


@pytest.mark.slow
def test_each_part_of_a_run_reports(lab, reported, capsys):
    assert cli.main(["train", *SHORT]) == 0, capsys.readouterr().err
    paths = [" > ".join(stage.name for stage in stages) for stages in reported]
    expected = [
        "instruct-lab train: composing the config",
        "importing torch, transformers and Lightning",
        "loading the tokenizer",
        "reading the data",
        "preprocessing, step clean > train split",
        "tokenising > train split",
        "loading the weights of a random llama model",
        "evaluating the base model on the validation split > answers",
        "evaluating the base model on the validation split > likelihoods",
        "evaluating the base model on the test split > answers",
        "applying the tuning method",
        "training",
        "training > validation",
        "training > validation > writing the best weights",
        "writing the last weights",
        "evaluating the tuned model on the test split > answers",
        "computing the results",
    ]
    assert [path for path in expected if path not in paths] == []
    order = [paths.index(path) for path in expected]
    assert order == sorted(order)
    (training,) = {id(s[-1]): s[-1] for s in reported if s[-1].name == "training"}.values()
    assert training.done == training.total > 0
    for stages in reported:
        innermost = stages[-1]
        if innermost.name in ("answers", "likelihoods", "validation"):
            assert innermost.done == innermost.total > 0
    printed = capsys.readouterr().err
    for name in ("examples", "training", "learning rate", "base model", "device"):
        assert f"\n{name}" in printed


@pytest.mark.slow
def test_accumulated_batches_count_for_the_time_that_is_left(lab, reported, monkeypatch):
    parts, update = set(), Stage.update

    def follow(stage, done, *, ahead=0.0, note=None):
        if stage.name == "training":
            parts.add(ahead)
        update(stage, done, ahead=ahead, note=note)

    monkeypatch.setattr(Stage, "update", follow)
    assert cli.main(["train", *SHORT, "trainer.accumulate_grad_batches=2", "batching.batch_size=1"]) == 0
    training = next(stages[-1] for stages in reported if stages[-1].name == "training")
    assert training.done == training.total
    assert parts == {0.0, 0.5}


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["tuning.r=0", "optimizer.lr=-1", "data.train.mine.path=missing.jsonl"])
def test_a_refused_run_does_not_begin_to_train(lab, reported, broken):
    assert cli.main(["train", *SHORT, broken]) != 0
    assert all(not stages[-1].name.startswith("training") for stages in reported)
