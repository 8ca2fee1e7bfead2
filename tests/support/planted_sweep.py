"""Records of a sweep whose runs are a formula, with all that trained ones have: curves, answers, costs."""

import json
import math
import random

from instruct_lab.metrics import SquadExactMatch, SquadF1
from instruct_lab.metrics.intervals import example_scores
from instruct_lab.records import PredictionLine, RunRecord, Summary

SWEEP = "20260102-030405-abcd"
METRICS = {"exact": SquadExactMatch(), "f1": SquadF1()}
WORDS = "river stone bright window quiet garden paper engine copper violet market winter signal harbour lantern".split()
HOSTILE = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script> & \u202eabc"
TUNINGS = ("lora", "dora", "full")


def sweep(runs_path, num_runs=50, num_steps=300, num_examples=100, num_names=8, seed=0):
    """Write the records of a sweep; returns its folder. The last run failed halfway, the one before was pruned."""
    folder = runs_path / "planted" / SWEEP
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps({"id": SWEEP, "status": "finished"}), encoding="utf-8")
    for number in range(num_runs):
        unfinished = {num_runs - 1: "failed", num_runs - 2: "pruned"} if num_runs > 4 else {}
        status = unfinished.get(number, "finished")
        run(runs_path, number, status, num_steps, num_examples, num_names, random.Random(seed * 1000 + number))
    return folder


def run(runs_path, number, status, num_steps, num_examples, num_names, source):
    """Write one record."""
    tuning, r = TUNINGS[number % 3], 2 ** (2 + number % 5)
    lr = 10 ** (-5 + 3 * ((number * 7) % 50) / 49)
    quality = 1.2 - 0.25 * abs(math.log10(lr / 5e-4)) + 0.02 * math.log2(r) + 0.05 * (tuning == "dora")
    metrics = {
        "exact": {"_target_": "instruct_lab.metrics.SquadExactMatch"},
        "f1": {"_target_": "instruct_lab.metrics.SquadF1"},
    }
    config = {
        "name": "planted",
        "seed": number,
        "tuning": {"name": tuning, "r": None if tuning == "full" else r, "use_dora": tuning == "dora"},
        "optimizer": {"lr": lr, "betas": [0.9, 0.999 if number % 2 else 0.95]},
        "metrics": metrics,
    }
    choices = {"tuning": tuning, "data": "standard_library"}
    values = {"tuning": tuning, "tuning.r": config["tuning"]["r"], "optimizer.lr": lr}
    facts = {"choices": choices, "sweep": {"values": values}}
    facts["parameters"] = {"trained": 8192 * r if tuning != "full" else 134_515_008}
    record = RunRecord.create(runs_path, "planted", config, [], run_id=f"{SWEEP}-{number:04d}", **facts)
    steps = num_steps if status == "finished" else num_steps // 3
    lines = []
    for step in range(steps):
        loss = 0.9 / max(quality, 0.2) + 3 * math.exp(-step * quality / 60) + source.gauss(0, 0.06)
        names = {f"train/value_{name}": source.random() for name in range(num_names - 4)}
        line = {"step": step, "epoch": 0, "seconds": 0.2 * step, "train/loss": loss if step != 7 else None}
        line |= {"train/lr": lr * (1 - step / num_steps), "train/gradient_norm": source.lognormvariate(0, 0.5), **names}
        lines.append(line | ({"val/loss": loss + 0.1} if step % 25 == 24 else {}))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (record.path / "metrics.jsonl").write_text(text, encoding="utf-8")
    if status == "finished":
        finish(record, quality, num_examples, number, source)
    record.write_manifest(status=status)
    return record


def finish(record, quality, num_examples, number, source):
    """Write the results of a run on two splits."""
    values_by_name, measured, rows = {}, {}, []
    for split, short in (("validation", "val"), ("test", "test")):
        answers = [example(split, index, quality, number, source) for index in range(num_examples)]
        rows += answers
        scored = {}
        for name, metric in METRICS.items():
            scored[name] = [metric.statistics(one["prediction"], tuple(one["references"])) for one in answers]
            value = metric.value([sum(column) for column in zip(*scored[name], strict=True)])
            interval = {"value": value, "low": max(0, value - 5), "high": min(100, value + 5), "count": num_examples}
            values_by_name[f"{short}/{name}"] = {"after": {**interval, "signature": metric.signature()}}
            for one, score in zip(answers, example_scores(metric, scored[name]), strict=True):
                one["scores"][name] = score
        measured[split] = {"after": {"rows": scored, "predictions": [{"id": one["id"]} for one in answers]}}
    record.write_json("after.json", measured)
    record.write_predictions(map(PredictionLine.from_json, rows))
    costs = {"seconds": 70.0 + number, "training_seconds": 60.0 + number, "peak_memory_bytes": 10**9 + number * 10**7}
    costs |= {"tokens": 120_000 + number, "weights_bytes": 4_000_000}
    record.write_summary(Summary.from_json({"metrics": values_by_name, **costs}))


def example(split, index, quality, number, source):
    """One answer: words of the reference, some of them wrong."""
    words = random.Random(f"{split} {index}")
    reference = [words.choice(WORDS) for _ in range(words.randint(1, 12))]
    hardness = words.random()
    right = [word if source.random() < quality - 0.6 * hardness else source.choice(WORDS) for word in reference]
    prompt = f"Name the words of line {index}: " + " ".join(words.choice(WORDS) for _ in range(30))
    text = HOSTILE if index == 3 else " ".join(right)
    return {
        "id": f"{split}-{index}",
        "split": split,
        "prompt": HOSTILE + prompt if index == 3 else prompt,
        "prediction": text,
        "prediction_before": "I cannot say.",
        "references": [" ".join(reference)],
        "scores": {},
    }
