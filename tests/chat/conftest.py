"""A tuned tiny model that answers, loaded once for each test module."""

import pytest
from support.lab import TINY, new_lab

from instruct_lab import cli
from instruct_lab.chat.answering import load_answerer
from instruct_lab.config.environment_values import to_omegaconf
from instruct_lab.experiment.check import check_config
from instruct_lab.records import find_run

OPTIONS = ["trainer.max_steps=3", "optimizer.lr=0.05", "evaluation.before=false", "evaluation.splits=[validation]"]


@pytest.fixture(scope="module")
def chat_lab(tmp_path_factory):
    """A folder with one run; the command runs there."""
    with new_lab(tmp_path_factory.mktemp("chat")) as folder:
        assert cli.main(["train", *TINY, *OPTIONS, "generation.max_new_tokens=12"]) == 0
        yield folder


@pytest.fixture(scope="module")
def answerers(chat_lab):
    """The run's model and its base model."""
    record = find_run(chat_lab / "runs", "latest")
    experiment = check_config(to_omegaconf({**record.config, "tracker": {}}))
    return [load_answerer(experiment, record), load_answerer(experiment, record, "base")]
