"""The files that name the kept weights are read with care."""

import json

import pytest

from instruct_lab.callbacks.kept_weights import KeptWeights, keep_weights, read_weights
from instruct_lab.errors import InstructLabError


@pytest.fixture
def checkpoints(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    keep_weights(lambda path: path.mkdir(), folder, "best", step=7, monitor="val/loss", value=0.5)
    return folder


def test_kept_weights_are_found(checkpoints):
    assert read_weights(checkpoints, "best") == KeptWeights("best", checkpoints / "best-000007", 7, "val/loss")
    assert read_weights(checkpoints, "last") is None


GARBAGE = {
    "empty": "",
    "cut": '{"path": "best-0',
    "a list": "[1, 2]",
    "a number": "3",
    "a text": '"best-000007"',
    "without a path": '{"step": 7}',
    "without a step": '{"path": "best-000007"}',
    "a path that is a number": '{"path": 7, "step": 7}',
    "a path that is null": '{"path": null, "step": 7}',
    "a step that is a text": '{"path": "best-000007", "step": "x"}',
    "a missing folder": '{"path": "best-000008", "step": 8}',
    "a file": '{"path": "best.json", "step": 7}',
    "the folder itself": '{"path": ".", "step": 7}',
    "a folder above": '{"path": "..", "step": 7}',
    "a folder outside": '{"path": "../../other", "step": 7}',
    "an absolute path": '{"path": "/etc", "step": 7}',
    "a zero byte": json.dumps({"path": "best\0", "step": 7}),
    "a long name": json.dumps({"path": "x" * 10_000, "step": 7}),
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_one_paragraph_with_the_name_of_the_file(checkpoints, kind):
    (checkpoints.parent.parent / "other").mkdir()
    (checkpoints / "best.json").write_text(GARBAGE[kind], encoding="utf-8")
    with pytest.raises(InstructLabError) as refused:
        read_weights(checkpoints, "best")
    assert "best.json" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 2000


def test_a_link_that_leads_out_of_the_record_is_refused(checkpoints, tmp_path):
    (tmp_path / "other").mkdir()
    (checkpoints / "best-000009").symlink_to(tmp_path / "other")
    (checkpoints / "best.json").write_text('{"path": "best-000009", "step": 9}', encoding="utf-8")
    with pytest.raises(InstructLabError, match="not a folder beside the file"):
        read_weights(checkpoints, "best")
