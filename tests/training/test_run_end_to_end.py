"""One command from rows to a measured, recorded, usable model."""

import json
from pathlib import Path

import pytest
import torch
from support.records import logged

from instruct_lab import cli

UNMEASURED = ["evaluation.before=false", "evaluation.splits=[]", "evaluation.during_examples=0"]
"""A run whose results nobody reads."""
FULL = ["tuning=full", "optimizer.lr=0.01"]


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_run_leaves_a_complete_record(train, tuning, capsys):
    record = train(f"tuning={tuning}", "trainer.max_epochs=2")
    shown = capsys.readouterr().out
    commands = [line.removeprefix("next: instruct-lab ") for line in shown.splitlines() if line.startswith("next: ")]
    assert [command.split()[0] for command in commands] == ["show-run", "chat", "export"]
    assert cli.main(commands[0].split()) == 0
    assert Path("run.html").is_file()
    assert "tuned - untuned" in shown
    assert "prompt" in shown
    manifest, summary, audit = (read(record / f"{name}.json") for name in ("manifest", "summary", "audit"))
    assert manifest["status"] == "finished"
    assert manifest["choices"]["tuning"] == tuning
    assert {"validation", "test"} == {name.split("/")[0].replace("val", "validation") for name in summary["metrics"]}
    after = summary["metrics"]["test/chrf"]["after"]
    assert set(after) == {"value", "low", "high", "count", "signature", "notes"}
    assert after["low"] <= after["value"] <= after["high"]
    assert {"before", "after", "difference"} <= set(summary["metrics"]["test/perplexity"])
    assert audit["facts"]["examples"]["train"] > 0
    assert 0 < summary["saved_positions"] < summary["positions"]
    assert "positions of training batches were not computed again" in shown
    lines = [json.loads(line) for line in (record / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 8
    assert set(lines[0]) == {"id", "split", "prompt", "prediction", "prediction_before", "references", "scores"}
    losses = [loss for _, loss in logged(record, "train/loss")]
    assert losses[-1] < losses[0]
    assert logged(record, "val/loss")
    assert logged(record, "val/chrf")


@pytest.mark.slow
def test_the_same_config_and_seed_give_the_same_digits(train):
    first, second = train("trainer.max_epochs=1"), train("trainer.max_epochs=1")
    assert logged(first, "train/loss") == logged(second, "train/loss")
    assert read(first / "summary.json")["metrics"] == read(second / "summary.json")["metrics"]
    other = train("trainer.max_epochs=1", "seed=1")
    assert logged(other, "train/loss") != logged(first, "train/loss")


@pytest.mark.slow
def test_a_recorded_config_runs_again_to_the_same_digits(train, lab):
    first = train("trainer.max_epochs=1", "optimizer.lr=0.01")
    assert cli.main(["reproduce", first.name]) == 0
    records = {path.parent for path in lab.glob("runs/*/*/summary.json")} - {first}
    (second,) = records
    assert logged(first, "train/loss") == logged(second, "train/loss")
    assert read(first / "manifest.json")["config_hash"] == read(second / "manifest.json")["config_hash"]


@pytest.mark.slow
def test_an_adapter_checkpoint_holds_only_the_adapter(train):
    record = train("callbacks.checkpoint.every_steps=1", "tuning=lora", *UNMEASURED)
    state = torch.load(record / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state
    assert all("lora_" in name for name in state)
    (best,) = (record / "checkpoints").glob("best-*")
    assert (best / "adapter_model.safetensors").is_file()
    assert not (best / "model.safetensors").exists()


@pytest.mark.slow
def test_only_the_adapter_changes_under_lora_and_everything_under_full(train, lab):
    from omegaconf import OmegaConf

    from instruct_lab.experiment.check import check_config
    from instruct_lab.training.workspace import Workspace

    for overrides, all_change in ((["tuning=lora"], False), (FULL, True)):
        record = train(*overrides, *UNMEASURED)
        experiment = check_config(OmegaConf.load(record / "config.yaml"))
        base = Workspace(experiment).base().loaded.model.state_dict()
        tuned = Workspace(experiment).tuned(record).loaded.model.state_dict()
        changed = {name for name in base if not torch.equal(base[name], tuned[name])}
        norms = {name for name in base if "norm" in name or "embed" in name}
        assert changed
        assert bool(changed & norms) is all_change


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_the_exported_folder_reproduces_the_runs_predictions_token_for_token(train, lab, tuning, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    record = train(f"tuning={tuning}", "trainer.max_epochs=4", "generation.max_new_tokens=12")
    assert cli.main(["export", "latest", str(lab / "exported")]) == 0
    model = AutoModelForCausalLM.from_pretrained(lab / "exported").eval()
    tokenizer = AutoTokenizer.from_pretrained(lab / "exported")
    for line in map(json.loads, (record / "predictions.jsonl").read_text().splitlines()):
        messages = [{"role": "user", "content": line["prompt"]}]
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        output = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        assert tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True) == line["prediction"]
    card = (lab / "exported" / "README.md").read_text(encoding="utf-8")
    assert "test/chrf" in card
    assert "rows.jsonl" in card
    capsys.readouterr()
    prompt = line["prompt"]
    assert cli.main(["generate", "latest", prompt]) == 0
    assert capsys.readouterr().out.strip() == line["prediction"].strip()
    assert cli.main(["generate", "latest", prompt, "--base"]) == 0
    assert capsys.readouterr().out.strip() == line["prediction_before"].strip()


@pytest.mark.slow
def test_an_adapter_can_be_exported_unmerged(train, lab):
    from peft import PeftConfig

    train("tuning=lora", "trainer.max_steps=2", *UNMEASURED)
    assert cli.main(["export", "latest", str(lab / "adapter"), "--keep-adapter"]) == 0
    assert PeftConfig.from_pretrained(lab / "adapter").peft_type == "LORA"


@pytest.mark.slow
def test_an_export_never_overwrites(train, lab, capsys):
    train("tuning=lora", "trainer.max_steps=2", *UNMEASURED)
    (lab / "mine").mkdir()
    (lab / "mine" / "precious.txt").write_text("mine")
    assert cli.main(["export", "latest", str(lab / "mine")]) == 2
    assert [path.name for path in (lab / "mine").iterdir()] == ["precious.txt"]


@pytest.mark.slow
def test_a_run_is_used_after_its_data_are_gone(train, lab, monkeypatch, capsys):
    train("trainer.max_steps=1", "evaluation.before=false")
    (lab / "rows.jsonl").rename(lab / "moved.jsonl")
    (lab / "empty").mkdir()
    inode = (lab / "empty").stat().st_ino
    monkeypatch.chdir(lab / "empty")
    runs = ["--runs", "../runs"]
    assert cli.main(["export", "latest", ".", *runs]) == 0
    assert (lab / "empty").stat().st_ino == inode, "an empty folder is filled and not replaced"
    assert {"model.safetensors", "README.md"} <= {file.name for file in Path().iterdir()}
    assert not list(Path().glob("*partial*"))
    assert cli.main(["generate", "latest", "red", *runs]) == 0
    assert cli.main(["evaluate", "latest", "data=path:../moved.jsonl", *runs]) == 0
    capsys.readouterr()
    for arguments in (["export", "latest", "measured", "--measure"], ["evaluate", "latest"]):
        assert cli.main([*arguments, *runs]) == 2
        assert "there is no such file" in capsys.readouterr().err


def test_a_failed_run_keeps_its_traceback(lab, tiny, capsys):
    assert cli.main(["train", *tiny, "optimizer.lr=1.0e+30", "trainer.gradient_clip_val=null"]) == 1
    (manifest,) = lab.glob("runs/*/*/manifest.json")
    content = read(manifest)
    assert content["status"] == "failed"
    assert "Traceback" in json.dumps(content)
    assert "loss is" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("tracker", ["csv", "tensorboard", "wandb"])
def test_a_tracker_receives_the_values(train, lab, tracker):
    train(f"tracker={tracker}", "runs_path=tracked", "trainer.max_steps=2", "evaluation.before=false")
    patterns = {"csv": "tracked/*/*/csv/metrics.csv", "tensorboard": "tracked/tensorboard/**/events*"}
    assert list(lab.glob(patterns.get(tracker, "tracked/wandb/**/*.wandb")))


@pytest.mark.slow
def test_several_trackers_at_once_and_one_removed(train, lab):
    train("tracker=[csv,tensorboard]", "tracker.tensorboard=null", "runs_path=tracked", *UNMEASURED)
    assert list(lab.glob("tracked/*/*/csv/metrics.csv"))
    assert not list(lab.glob("tracked/tensorboard"))


@pytest.mark.slow
def test_a_metric_can_be_removed_and_a_callback_added(train):
    record = train("metrics.chrf=null", "callbacks=[default,early_stopping]")
    metrics = read(record / "summary.json")["metrics"]
    assert "test/chrf" not in metrics
    assert "test/bleu" in metrics


@pytest.mark.slow
@pytest.mark.parametrize("debug", ["fast", "overfit", "profile", "anomaly"])
def test_a_debug_option_runs(train, debug):
    record = train(f"debug={debug}", *(["trainer.max_steps=3"] if debug == "anomaly" else []))
    steps = logged(record, "train/loss")[-1][0]
    assert {"fast": steps == 2, "profile": steps <= 10}.get(debug, True)
    if debug == "overfit":
        losses = [loss for _, loss in logged(record, "train/loss")]
        assert losses[-1] < losses[0]


@pytest.mark.slow
def test_bfloat16_arithmetic_trains(train):
    record = train("trainer.precision=bf16-mixed", *UNMEASURED)
    losses = [loss for _, loss in logged(record, "train/loss")]
    assert losses[-1] < losses[0]


def test_prompts_that_become_equal_by_cleaning_are_in_one_split(lab):
    from instruct_lab.data import Audit, Conversation, Message
    from instruct_lab.experiment.check import check
    from instruct_lab.model.byte_tokenizer import byte_tokenizer
    from instruct_lab.training.datamodule import InstructionData

    experiment = check(["data=mine", "model=tiny_random"]).or_refuse().experiment
    clean, dirty = "Say hello", "Say hel\x00lo"
    rows = [json.loads(line) for line in (lab / "rows.jsonl").read_text().splitlines()]
    for index, prompt in enumerate([clean, dirty]):
        rows += [{"instruction": prompt, "input": "", "output": f"answer {index}"}]
    (lab / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = [experiment.data.split.split_of(Conversation((Message("user", p),))) for p in (clean, dirty)]
    assert len(set(splits)) == 2, "the hash must put them into two splits, or this test shows nothing"
    data = InstructionData(experiment, byte_tokenizer(), lab / "cache", Audit())
    holding = [s for s, found in data.conversations.items() if any(c.prompt[-1].content == clean for c in found)]
    assert len(holding) == 1


@pytest.mark.slow
def test_every_setting_of_evaluation_has_an_effect(train, capsys):
    record = train("evaluation.before=false", "evaluation.splits=[test]", "evaluation.during_examples=0")
    metrics = read(record / "summary.json")["metrics"]
    assert {name.split("/")[0] for name in metrics} == {"test"}
    assert set(metrics["test/chrf"]) == {"after"}
    assert not logged(record, "val/chrf")
    assert logged(record, "val/loss")
    capsys.readouterr()
    train("evaluation.show_samples=1", "evaluation.max_examples=2")
    shown = capsys.readouterr().out
    assert shown.count("  prompt ") == 1
    assert "2 held-out examples" in shown


@pytest.mark.slow
def test_baselines_are_evaluated_unless_they_are_switched_off(train):
    nearest = "+data.baselines={nearest:{_target_:instruct_lab.data.NearestExample}}"
    assert "nearest" in read(train(nearest) / "summary.json")["metrics"]["test/chrf"]
    off = train(nearest, "evaluation.baselines=false")
    assert "nearest" not in read(off / "summary.json")["metrics"]["test/chrf"]


@pytest.mark.slow
def test_the_chosen_weights_are_evaluated(train):
    worse_later = ["tuning=full", "optimizer.lr=2", "lr_scheduler=constant", "trainer.max_epochs=4"]
    best, last = train(*worse_later), train(*worse_later, "evaluation.checkpoint=last")
    losses = logged(best, "val/loss")
    best_step, last_step = min(losses, key=lambda pair: pair[1])[0], logged(best, "train/loss")[-1][0]
    assert best_step < last_step
    assert read(best / "manifest.json")["evaluated_step"] == best_step
    assert read(last / "manifest.json")["evaluated_step"] == last_step
    unmonitored = train("callbacks.checkpoint.monitor=null")
    assert not list((unmonitored / "checkpoints").glob("best*"))
    assert read(unmonitored / "manifest.json")["evaluated_step"] == logged(unmonitored, "train/loss")[-1][0]
