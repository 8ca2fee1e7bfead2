"""Records of different runs for tables: many groups, metrics, statuses, and names of all lengths."""

import datetime

from instruct_lab.metrics import MetricValue
from instruct_lab.records import RunRecord, Summary

STARTED = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
METRICS = ("val/chrf", "val/bleu", "val/perplexity", "test/chrf", "test/bleu", "test/perplexity", "test/rouge_l")
DEFAULTS = {"tuning": "lora", "model": "smollm2_135m_instruct", "data": "interface_fr", "objective": "supervised"}
SETS = {
    "lora": {"_target_": "instruct_lab.tuning.LoRA", "r": 8, "alpha": 16},
    "dora": {"_target_": "instruct_lab.tuning.LoRA", "r": 8, "alpha": 16, "use_dora": True},
    "full": {"_target_": "instruct_lab.tuning.Full"},
    "train_last_layers": {"_target_": "instruct_lab.tuning.TrainLastLayers", "layers": 4},
}
RUNS = (
    [],
    ["tuning=dora"],
    ["tuning=full", "optimizer.lr=2e-05"],
    ["tuning.r=4"],
    ["tuning.r=4", "optimizer.lr=0.01"],
    ["tuning.r=16", "optimizer.lr=0.01"],
    ["tuning=train_last_layers"],
    ["model=flan_t5_small_from_the_hub_at_some_revision"],
    ["model=modernbert_base", "objective=masked"],
    ["data=local_sharegpt_conversations"],
    ["data=stdlib_functions", "tuning.r=32", "optimizer.lr=0.000369123", "trainer.max_steps=4096"],
    ["experiments=sharegpt-pt-br-masked-long-name-of-a-study"],
    ["experiments=dry_run"],
    ["seed=1"],
    ["seed=2"],
    ["batching.max_tokens=512"],
    ["batching.max_tokens=1024", "template.text=Answer the question of the user in one sentence"],
    ["objective=dpo"],
    ["tuning.r=64", "optimizer.lr=1.0"],
)


def write_run(runs_path, number, overrides, status="finished", metrics=METRICS, run_id=None, **facts):
    """Write the record of one run that the overrides describe."""
    choices, values = dict(DEFAULTS), {"seed": 0}
    for text in overrides:
        key, _, value = text.partition("=")
        if "." in key or key == "seed":
            values[key] = float(value) if "." in value or "e-" in value else int(value) if value.isdigit() else value
        else:
            choices[key] = value
    config = {"name": "planted", "seed": values["seed"], "tuning": dict(SETS[choices["tuning"]]), "x": {}}
    config |= {"optimizer": {"lr": 2e-4}, "trainer": {"max_steps": 64}, "batching": {"max_tokens": 256}}
    config |= {"template": {"text": "Answer"}, "model": {"name": choices["model"]}, "data": {"name": choices["data"]}}
    for key, value in values.items():
        if "." in key:
            config[key.split(".")[0]][key.split(".")[1]] = value
    started = STARTED + datetime.timedelta(hours=7 * number)
    run_id = run_id or f"{started:%Y%m%d-%H%M%S}-{number:05x}0"
    record = RunRecord.create(runs_path, "planted", config, overrides, run_id=run_id, choices=choices, **facts)
    if status == "finished":
        measured = {name: systems(30 + number + 0.1 * index) for index, name in enumerate(metrics)}
        record.write_summary(Summary(seconds=60.0 + number, training_seconds=50.0, metrics=measured))
    record.write_manifest(status=status)
    record.write_manifest(started=started.isoformat())
    return record


def systems(value, before=17.25):
    """The values of the base model and the tuned model, with intervals."""
    return {
        "before": MetricValue(before, before - 2, before + 2, 96, "x"),
        "after": MetricValue(value, value - 3, value + 3, 96, "x"),
        "difference": MetricValue(value - before, value - before - 1, value - before + 1, 96, "x"),
    }


def write_runs(runs_path):
    """Write nineteen different runs, one of which failed, one was pruned and one was interrupted."""
    unfinished = {6: "failed", 12: "pruned", 15: "interrupted"}
    for number, overrides in enumerate(RUNS):
        write_run(runs_path, number, overrides, unfinished.get(number, "finished"))
