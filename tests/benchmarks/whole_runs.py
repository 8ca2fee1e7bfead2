"""Whole runs, from the command to the results: this version, an earlier commit, and a script for TRL.

Command: python tests/benchmarks/whole_runs.py [--train N] [--rounds N] [--before FOLDER] [--python PYTHON]
             [--without-trl] [OVERRIDE ...]

Each side is a process of its own, in each round once, in an order that is reversed from round to round. They have the
quick start's settings with N training examples (64) and start without any cached result, but with the data's packages
and the model downloaded and converted. `--before` is a checkout of an earlier commit, `--python` the interpreter of an
environment with TRL (extra `throughput`). All sides read the same preprocessed rows from files, because the earlier
commit divides and deduplicates the data differently.

The script for TRL (`trl_script` below) trains on the same rows in float32 with the same batch size, schedule and
adapters, without gradient checkpointing, and measures what our run measures, with the usual means: validation loss
twice, with the answers to 16 examples; before and after training the loss of, and the answers to, 96 held-out
examples of two splits, by `generate` in batches of 8 prompts of similar length, with the merged model after training;
chrF of the answers. It computes no intervals, tests, baselines and other metrics, and writes no record.

Printed are the medians of processor seconds and wall seconds, and the values before and after training.
"""

import argparse
import dataclasses
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from same_rows import OPTION, row_of, write_rows

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DURING, SPLITS, BATCH = 16, ("validation", "test"), 8


@dataclasses.dataclass
class Costs:
    """What one run cost, and its values before and after training."""

    cpu: float
    wall: float
    results: dict[str, list[float]]


def prepare(folder, overrides):
    """Write the model and the rows for the script, from the same config."""
    from instruct_lab.data import Audit
    from instruct_lab.experiment.check import check
    from instruct_lab.experiment.settled import settle_answers
    from instruct_lab.generation import context_length
    from instruct_lab.training.datamodule import InstructionData

    experiment = check(overrides).or_refuse().experiment
    cache = Path(experiment.cache_path).expanduser()
    tokenizer = experiment.model.load_tokenizer(cache)
    data = InstructionData(experiment, tokenizer, cache, Audit())
    model = experiment.model.load(tokenizer, cache).model
    settled, _ = settle_answers(experiment, data.answer_lengths, context_length(model))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    number = experiment.evaluation.max_examples
    measured = {split: data.evaluated_examples(split, number).conversations for split in SPLITS}
    train, validation = (data.conversations[split] for split in ("train", "validation"))
    write_rows(folder / "conf" / "data", {"train": train, "validation": validation, "test": measured["test"]})
    used = {"train": train, "validation": validation, **{f"measured {split}": measured[split] for split in SPLITS}}
    used["during"] = data.evaluated_examples("validation", DURING).conversations
    rows = {name: [row_of(one) for one in conversations] for name, conversations in used.items()}
    facts = {"rows": rows, "limit": settled.generation.limit, "lr": experiment.tuning.learning_rate}
    (folder / "work.json").write_text(json.dumps(facts))


def trl_script(folder):
    """What a user of TRL would write to get the same values."""
    import sacrebleu
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    work = json.loads((folder / "work.json").read_text())
    rows = work["rows"]
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    tokenizer.padding_side = "left"

    def answer(model, rows):
        was_training = model.training
        model.eval()
        prompts = [row["prompt"] for row in rows]
        texts = tokenizer.apply_chat_template(prompts, tokenize=False, add_generation_prompt=True)
        order, answers = sorted(range(len(rows)), key=lambda index: len(texts[index])), {}
        for start in range(0, len(rows), BATCH):
            chosen = order[start : start + BATCH]
            batch = tokenizer([texts[index] for index in chosen], return_tensors="pt", padding=True,
                              add_special_tokens=False)  # fmt: skip
            with torch.inference_mode():
                output = model.generate(**batch, max_new_tokens=work["limit"], do_sample=False)
            decoded = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
            answers.update(zip(chosen, decoded, strict=True))
        model.train(was_training)
        references = [row["completion"][0]["content"] for row in rows]
        return sacrebleu.corpus_chrf([answers[index] for index in range(len(rows))], [references]).score

    class Answers(TrainerCallback):
        def on_evaluate(self, args, state, control, model=None, metrics=None, **kwargs):
            if "eval_loss" in metrics:
                answer(model, rows["during"])

    arguments = SFTConfig(
        output_dir=str(folder / "trl"), per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH,
        num_train_epochs=1, learning_rate=work["lr"], lr_scheduler_type="cosine", warmup_steps=0.05, max_grad_norm=1.0,
        weight_decay=0.0, bf16=False, gradient_checkpointing=False, eval_strategy="steps", eval_steps=0.5, seed=0,
        logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = SFTTrainer(
        model, arguments, train_dataset=Dataset.from_list(rows["train"]), processing_class=tokenizer,
        eval_dataset=Dataset.from_list(rows["validation"]), callbacks=[Answers()],
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )  # fmt: skip
    measured = {split: Dataset.from_list(rows[f"measured {split}"]) for split in SPLITS}
    chrf = {split: [answer(model, rows[f"measured {split}"])] for split in SPLITS}
    for split in SPLITS:
        trainer.evaluate(measured[split], metric_key_prefix=split)
    trainer.train()
    trainer.save_model()
    for split in SPLITS:
        trainer.evaluate(measured[split], metric_key_prefix=split)
    merged = trainer.model.merge_and_unload()
    for split in SPLITS:
        chrf[split].append(answer(merged, rows[f"measured {split}"]))
    (folder / "chrf.json").write_text(json.dumps(chrf))


def empty_cache(folder):
    """A cache that holds downloads and the converted model, but no result."""
    usual = Path(os.environ.get("INSTRUCT_LAB_CACHE", "~/.cache/instruct_lab")).expanduser()
    folder.mkdir(parents=True)
    for name in ("packages", "models"):
        (folder / name).symlink_to(usual / name)
    return folder


def measure(command, folder, package, threads, results):
    """Run one side to its end."""
    environment = dict(os.environ, PYTHONPATH=str(package), OMP_NUM_THREADS=str(threads), HF_HUB_OFFLINE="1")
    environment["INSTRUCT_LAB_CACHE"] = str(empty_cache(folder / "cache"))
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Costs(cpu, wall, results())


def results_of_run(folder):
    """Values before and after training, from the record of a run: chrF, perplexity and all others of each split."""
    (summary,) = folder.glob("runs/*/*/summary.json")
    metrics = json.loads(summary.read_text())["metrics"]
    return {
        name: [values[system]["value"] for system in ("before", "after")]
        for name, values in metrics.items()
        if {"before", "after"} <= set(values)
    }


def read_chrf(folder):
    """chrF before and after training, as the script for TRL has written it."""
    found = json.loads((folder / "chrf.json").read_text())
    return {"val/chrf": found["validation"], "test/chrf": found["test"]}


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--without-trl", action="store_true", help="measure no script for TRL")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    settings = ["tracker=none", *options.overrides]
    sides = ["this version", *([] if options.without_trl else ["TRL"]), *(["earlier commit"] if options.before else [])]
    found = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as name:
        shared = Path(name)
        subprocess.run(
            [sys.executable, __file__, "--prepare", str(shared), f"data.limit.train={options.train}", *settings],
            check=True,
        )
        for number in range(options.rounds):
            for side in sides[:: -1 if number % 2 else 1]:
                folder = Path(tempfile.mkdtemp(dir=name))
                (folder / "conf").symlink_to(shared / "conf")
                package, read = ROOT, functools.partial(results_of_run, folder)
                command = [
                    sys.executable,
                    "-m",
                    "instruct_lab.cli",
                    "train",
                    f"data={OPTION}",
                    "preprocessing=none",
                    *settings,
                ]
                if side == "TRL":
                    command, read = (
                        [options.python, __file__, "--trl", str(shared)],
                        functools.partial(read_chrf, shared),
                    )
                elif side == "earlier commit":
                    package = options.before
                found[side].append(measure(command, folder, package, options.threads, read))
                print(f"{side}: {found[side][-1]}", flush=True)
    ours = statistics.median(one.cpu for one in found["this version"])
    for side in sides:
        cpu, wall = (statistics.median(getattr(one, kind) for one in found[side]) for kind in ("cpu", "wall"))
        values = "; ".join(
            f"{name} {before:.4f}, {after:.4f}" for name, (before, after) in found[side][0].results.items()
        )
        print(f"{side}: {cpu:.1f} s of processor time ({cpu / ours:.2f} times), {wall:.1f} s; {values}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--prepare"]:
        prepare(Path(sys.argv[2]), sys.argv[3:])
    elif sys.argv[1:2] == ["--trl"]:
        trl_script(Path(sys.argv[2]))
    else:
        main()
