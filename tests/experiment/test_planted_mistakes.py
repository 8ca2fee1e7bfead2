"""Every planted mistake is refused before anything is loaded, and its key is named."""

import json

import pytest

from instruct_lab import cli
from instruct_lab.experiment.check import check

# overrides, the key that is named, the suggestion (None: not looked at)
MISTAKES = [
    # names
    (["tunning=lora"], "tunning", "tuning"),
    (["tuning=lorra"], "tuning", "lora"),
    (["model=smolm2_135m"], "model", "smollm2_135m"),
    (["data=interface_frr"], "data", "interface_fr"),
    (["experiments=interfacefr"], "experiments", "interface_fr"),
    (["metrics=[text,translatoin]"], "metrics", "translation"),
    (["callbacks=[default,early_stoping]"], "callbacks", "early_stopping"),
    (["debug=fasst"], "debug", "fast"),
    (["+nam=x"], "nam", "name"),
    (["seeds=1"], "seeds", "seed"),
    # keys below a component, at every depth
    (["tuning.rank=8"], "tuning.rank", None),
    (["tuning.alhpa=8"], "tuning.alhpa", "alpha"),
    (["optimizer.learning_rate=1"], "optimizer.learning_rate", None),
    (["optimizer.weight_deacy=0.1"], "optimizer.weight_deacy", "weight_decay"),
    (["data.split.validatoin=0.1"], "data.split.validatoin", "validation"),
    (["data.train.horizon.languge=de"], "data.train.horizon.languge", "language"),
    (["data.train.horizon.asset.pacakge=x"], "data.train.horizon.asset.pacakge", "package"),
    (["callbacks.checkpoint.every_step=5"], "callbacks.checkpoint.every_step", "every_steps"),
    (["evaluation.max_example=5"], "evaluation.max_example", "max_examples"),
    (["trainer.max_epoch=3"], "trainer.max_epoch", "max_epochs"),
    (
        ["callbacks=early_stopping", "callbacks.early_stopping.patients=3"],
        "callbacks.early_stopping.patients",
        "patience",
    ),
    (["metrics.chrff.word_order=2"], "metrics.chrff", None),
    # types
    (["tuning.r=eight"], "tuning.r", None),
    (["tuning.r=8.5"], "tuning.r", None),
    (["tuning.r='8'"], "tuning.r", None),
    (["seed=-1"], "seed", None),
    (["optimizer.lr=fast"], "optimizer.lr", None),
    (["optimizer.betas=0.9"], "optimizer.betas", None),
    (["batching.batch_size=true"], "batching.batch_size", None),
    (["trainer.max_epochs=three"], "trainer.max_epochs", None),
    (["trainer.precision=bf17-mixed"], "trainer.precision", "bf16-mixed"),
    (["evaluation.checkpoint=bset"], "evaluation.checkpoint", "best"),
    (["evaluation.splits=[validation,tset]"], "evaluation.splits", None),
    # ranges
    (["tuning.r=-4"], "tuning.r", None),
    (["tuning.dropout=1.0"], "tuning.dropout", None),
    (["optimizer.lr=0"], "optimizer.lr", None),
    (["optimizer.lr=.inf"], "optimizer.lr", None),
    (["batching.batch_size=0"], "batching.batch_size", None),
    (["lr_scheduler.warmup_ratio=1.5"], "lr_scheduler.warmup_ratio", None),
    (["trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches", None),
    # required values
    (["data=local_alpaca"], "data.train.file.path", None),
    (["model=local_folder"], "model.weights.path", None),
    # what does not go together
    (["data.split.validation=0.7", "data.split.test=0.5"], "data.split", None),
    (["lr_scheduler.warmup_steps=10", "lr_scheduler.warmup_ratio=0.1"], "lr_scheduler.warmup_steps", None),
    (["trainer.accelerator=gpuu"], "trainer.accelerator", "gpu"),
    (["trainer.strategy=fsdp_tp"], "trainer.strategy", "fsdp"),
    (["trainer.strategy=context_parallel"], "trainer.strategy", "fsdp"),
    (["trainer.strategy=deepspeed_stage_2"], "trainer.strategy", "fsdp"),
    (["trainer.strategy=fsdp_cpu_offload"], "trainer.strategy", "fsdp"),
    (["trainer=fsdp", "trainer.precision=16-mixed"], "trainer.precision", "bf16-mixed"),
    (["trainer=fsdp", "tuning=qlora"], "model.quantization", "null"),
    (["trainer=fsdp", "optimizer=muon"], "optimizer", None),
    (["trainer=fsdp", "model.compile=true"], "model.compile", "false"),
    (["trainer=fsdp", "+trainer.gradient_clip_algorithm=value"], "trainer.gradient_clip_algorithm", "norm"),
    (["++trainer.strategy={_target_: pytorch_lightning.strategies.FSDPStrategy}"], "trainer.strategy", "fsdp"),
    (["trainer.strategy=dpp"], "trainer.strategy", "ddp"),
    (["trainer.devices=zero"], "trainer.devices", "auto"),
    (["trainer.accelerator=[cpu]"], "trainer.accelerator", None),
    (["trainer.num_nodes=0"], "trainer.num_nodes", None),
    (["trainer.limit_test_batches=2"], "trainer.limit_test_batches", None),
    (["trainer.log_every_n_steps=5"], "trainer.log_every_n_steps", None),
    (["trainer.min_epochs=5"], "trainer.min_epochs", None),
    (["trainer.max_steps=3", "trainer.min_steps=50"], "trainer.min_steps", None),
    (["objective=kto", "batching.micro_batch=2"], "batching.micro_batch", "auto"),
    (["trainer.accelerator=cpu", "trainer.precision=16-mixed"], "trainer.precision", "bf16-mixed"),
    (["preprocessing.steps.normalise.form=NFC"], "preprocessing.steps.normalise", "normalize"),
    (["trainer.max_epochs=-1"], "trainer.max_epochs", None),
    (["trainer.logger=false"], "trainer.logger", None),
    (["callbacks.checkpoint.monitor=val/los"], "callbacks.checkpoint.monitor", "val/loss"),
    (["generation.max_new_tokens=100000"], "generation.max_new_tokens", None),
    (["callbacks.checkpoint.monitor=val/chrf", "callbacks.checkpoint.mode=min"], "callbacks.checkpoint.mode", "max"),
    (["metrics=[text,code_execution]", "metrics.pass_at_1.k=5"], "generation.num_samples", "5"),
    # the override itself
    (["tuning.r=4,8"], "tuning.r", None),
    (["=3"], "", None),
    (["~tuning.nothing"], "tuning.nothing", None),
    # targets
    (["tuning._target_=instruct_lab.tuning.LORA"], "tuning._target_", "instruct_lab.tuning.LoRA"),
    (["tuning._target_=instruct_lab.tunning.LoRA"], "tuning._target_", "instruct_lab.tuning.LoRA"),
    (["tuning._target_=instruct_lab.objective.Supervised"], "tuning", None),
    (["trainer._target_=pytorch_lightning.Trainr"], "trainer._target_", "pytorch_lightning.Trainer"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("overrides", "key", "suggestion"), MISTAKES, ids=[" ".join(m[0]) for m in MISTAKES])
def test_a_planted_mistake_is_refused_with_its_key(overrides, key, suggestion):
    problems = check(overrides).problems
    matching = [p for p in problems if p.key == key or (key and p.key.startswith(f"{key}."))]
    assert matching, f"no problem names {key!r}: {[str(p) for p in problems]}"
    assert all(problem.reason for problem in matching)
    if suggestion is not None:
        assert suggestion in [problem.suggestion for problem in matching]


def test_all_problems_are_reported_at_once(capsys):
    overrides = ["tuning.rank=8", "optimizer.lr=-1", "data.split.validation=2.0", "modle=x", "metrics=[nothing]"]
    assert cli.main(["check", "--json", *overrides]) == 2
    errors = json.loads(capsys.readouterr().out)["errors"]
    assert {"tuning.rank", "optimizer.lr", "data.split.validation", "modle", "metrics"} <= {e["key"] for e in errors}
    assert all(set(error) == {"key", "value", "reason", "suggestion"} for error in errors)


def test_train_runs_the_same_check_first(lab, tiny, capsys):
    assert cli.main(["train", *tiny, "tuning.rank=8"]) == 2
    assert "tuning.rank" in capsys.readouterr().err
    assert not (lab / "runs").exists()


FILES = {
    "a YAML key at depth 3": ("  validation: 0.15", "  validaton: 0.15", "data.split.validaton"),
    "an unknown column": ("instruct_lab.data.Alpaca", "instruct_lab.data.Alpaca\n  output: answer", "data.format"),
    "a missing file": ("path: rows.jsonl", "path: row.jsonl", "data.train.mine.path"),
    "an impossible split": ("validation: 0.1", "validation: 1.1", "data.split.validation"),
    "a wrong type": ("path: rows.jsonl", "path: 3", "data.train.mine.path"),
    "a wrong target": ("instruct_lab.data.Files", "instruct_lab.data.File", "data.train.mine._target_"),
    "broken YAML": ("format:", "format: [", "data"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new", "key"), FILES.values(), ids=FILES)
def test_a_mistake_in_an_option_file_is_refused_with_its_key(lab, old, new, key):
    path = lab / "conf" / "data" / "mine.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    problems = check(["data=mine"]).problems
    assert any(problem.key.startswith(key) for problem in problems), [str(problem) for problem in problems]


def test_the_unbroken_option_file_has_no_problem(lab):
    assert check(["data=mine"]).problems == []
