"""Which weights are kept as the best."""

import json

import pytest
from support.records import logged

OFTEN = [
    "trainer.max_epochs=2",
    "trainer.val_check_interval=1",
    "evaluation.before=false",
    "evaluation.baselines=false",
    "evaluation.during_examples=4",
    "optimizer.lr=0.05",
]


@pytest.mark.slow
@pytest.mark.parametrize(("monitor", "best"), [("val/chrf", max), ("val/loss", min)])
def test_the_best_weights_follow_the_direction_of_the_monitored_value(train, monitor, best):
    record = train(*OFTEN, f"callbacks.checkpoint.monitor={monitor}")
    values = logged(record, monitor)
    assert len({value for _, value in values}) > 1
    kept = json.loads((record / "checkpoints" / "best.json").read_text())
    assert kept["value"] == best(value for _, value in values)
    assert kept["step"] == next(step for step, value in values if value == kept["value"])
    assert json.loads((record / "manifest.json").read_text())["evaluated_step"] == kept["step"]
