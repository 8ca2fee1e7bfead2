"""Writing and printing of a run's results."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from instruct_lab.callbacks.kept_weights import KeptWeights
from instruct_lab.evaluation import result
from instruct_lab.experiment import Experiment
from instruct_lab.pages.format import format_percent
from instruct_lab.records import Results, RunRecord, Summary
from instruct_lab.records.schema import AFTER
from instruct_lab.terminal import wide_console
from instruct_lab.tracker.base import short_path
from instruct_lab.tracker.recorder import Recorder
from instruct_lab.tracker.values import final_values, predictions_table, results_table

if TYPE_CHECKING:
    from instruct_lab.training.stages import Trained


def write_results(
    experiment: Experiment, recorder: Recorder, results: Results, trained: Trained, weights: KeptWeights
) -> None:
    """Write the results to the run's record and the trackers, and print them.

    Args:
        experiment: the components of the run, built from its config.
        recorder: the recorder that writes to the record and the trackers.
        results: measurements, keyed by split and then by system (base model, baseline or tuned model).
        trained: steps, tokens and costs of the training.
        weights: the saved weights that were evaluated after training.
    """
    record = recorder.record
    setup = dataclasses.replace(experiment.evaluation_setup, selected_by=weights.monitor)
    record.write_results(AFTER, {split: {AFTER: systems[AFTER]} for split, systems in results.items()})
    metrics = result.summary_metrics(setup, results)
    seconds = record.seconds()
    predictions = result.prediction_lines(setup, results)
    record.write_predictions(predictions)
    record.write_manifest(evaluated_step=weights.step)
    costs = trained.costs.entries(record.checkpoints_path)
    summary = Summary("finished", seconds, trained.num_target_tokens, **costs, metrics=metrics)
    record.write_summary(summary)
    recorder.summarize(final_values(summary))
    recorder.log_table("results", *results_table(summary))
    recorder.log_table("predictions", *predictions_table(predictions))
    recorder.log_weights(weights.path)
    record.write_manifest(status="finished")
    console = wide_console()
    result.show(console, setup, results, metrics)
    console.print(f"{trained.num_steps} steps, {trained.num_target_tokens:,} target tokens, {seconds:.0f} s")
    if saved := trained.costs.positions.saved:
        share = format_percent(saved / (saved + trained.costs.positions.computed))
        saving = f"shared prefixes: {share} of the positions of training batches were not computed again"
        console.print(saving, soft_wrap=True)
    console.print(f"evaluated checkpoint: {weights}")
    console.print(f"record: {record.path}", soft_wrap=True)
    if record.manifest.sweep is None:
        for step in next_steps(record, bool(predictions)):
            console.print(f"next: {step}", soft_wrap=True)


def next_steps(record: RunRecord, has_answers: bool) -> list[str]:
    """Return the commands that show or use a finished run.

    Args:
        record: the record of the run.
        has_answers: whether the model has answered prompts, so that `instruct-lab chat` works with it.
    """
    runs_path = short_path(record.path.parent.parent)
    run = record.id if runs_path == "runs" else f"{record.id} --runs {runs_path}"
    steps = [f"instruct-lab show-run {run} --html run.html", f"instruct-lab export {run} my_model"]
    return [steps[0], f"instruct-lab chat {run} --base", steps[1]] if has_answers else steps
