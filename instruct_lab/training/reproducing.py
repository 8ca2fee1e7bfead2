"""A second run of a recorded config, and its comparison with the recorded run."""

from __future__ import annotations

from typing import Any

from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.launch import is_first_process
from instruct_lab.records import RunRecord
from instruct_lab.records.changes import code_changes, input_changes, machine_changes, setting_changes
from instruct_lab.records.reproduction import compare_with_recorded
from instruct_lab.records.schema import REPRODUCTION
from instruct_lab.terminal import write_line
from instruct_lab.training.resuming import inputs_of
from instruct_lab.training.run import RunContext, train


def reproduce(experiment: Experiment, config: dict[str, Any], record: RunRecord, force: bool) -> RunRecord:
    """Run a recorded config again, and print and record how the results compare with the recorded ones.

    Args:
        experiment: the components of the run, built from the recorded config.
        config: the recorded config.
        record: the record of the run to repeat.
        force: whether to go on even if settings or inputs differ from the recorded ones.

    Returns:
        The record of the new run, whose `reproduction.json` says whether the results are identical to the last bit.

    Raises:
        InstructLabError: settings or inputs differ from the recorded ones, and `force` is false.
    """
    changes = [*setting_changes(record), *input_changes(record, inputs_of(experiment, record))]
    if changes and not force:
        raise InstructLabError(
            f"These are not the recorded settings and inputs: {'; '.join(map(str, changes))}",
            where=f"run {record.id}",
            do="restore them, or add --force to run with the present ones",
        )
    changes += [*code_changes(record), *machine_changes(record)]
    changes += [change for one in record.manifest.continuations for change in one.changes if change.kind != "limit"]
    if is_first_process():
        for change in changes:
            write_line(f"different: {change}", error=True)
    manifest = record.manifest
    facts = {
        "derived": manifest.derived,
        "reduced_batches": manifest.reduced_batches,
        "device": manifest.device,
        "num_devices": manifest.num_devices,
    }
    context = RunContext(facts=facts)
    reproduced = train(experiment, config, manifest.choices, record.overrides, context)
    if is_first_process():
        reproduction = compare_with_recorded(record, reproduced, changes)
        reproduced.write_json(REPRODUCTION, {"identical": reproduction.is_identical, **vars(reproduction)})
        write_line(reproduction)
    return reproduced
