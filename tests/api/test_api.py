"""The Python interface: the same runs and records as the command line, as objects."""

import dataclasses
import json
import subprocess
import sys
import threading

import pytest
from support.lab import TINY, new_lab

import instruct_lab as il
from instruct_lab import cli
from instruct_lab.api.runs import frame

SHORT = [*TINY, "evaluation.show_samples=0"]


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """A lab with two recorded runs, trained from Python."""
    with new_lab(tmp_path_factory.mktemp("lab")):
        yield il.train(SHORT), il.train([*SHORT, "tuning=full"])


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "import instruct_lab.sweep", "from instruct_lab.sweep import Grid"])
def test_importing_and_naming_the_interface_loads_no_heavy_library(before):
    code = (
        f"{before}\nimport sys, instruct_lab as il\nassert callable(il.sweep) and il.train and il.Run\n"
        "print([m for m in ('torch', 'transformers', 'pandas', 'numpy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_name_is_listed_and_an_unknown_one_is_an_attribute_error():
    assert set(il.__all__) <= set(dir(il))
    assert all(getattr(il, name) is not None for name in il.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fine_tune'"):
        _ = il.fine_tune


# ---- configs


@pytest.mark.slow
def test_a_composed_config_is_the_one_that_show_prints(lab, capsys):
    config = il.compose([*TINY, "tuning.r=4"])
    assert cli.main(["show", "--json", *TINY, "tuning.r=4"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (config.choices, config.origins) == (shown["choices"], shown["origins"])
    assert config["tuning.r"] == 4
    assert config["model.tokenizer"] == config.values["model"]["tokenizer"]
    assert "# override" in str(config)
    with pytest.raises(KeyError, match=r"tuning\.rank"):
        config["tuning.rank"]


def test_a_wrong_config_is_refused_with_all_its_problems(lab):
    wrong = [*TINY, "tuning.rank=4", "optimizer.lr=-1"]
    with pytest.raises(il.ConfigError) as refused:
        il.compose(wrong)
    keys = {problem.key for problem in refused.value.problems}
    assert keys == {"tuning.rank", "optimizer.lr"}
    result = il.check(wrong)
    assert not result.is_ok
    assert {problem.key for problem in result.problems} == keys


@pytest.mark.slow
def test_check_reads_a_sweep_too(lab):
    assert il.check([*TINY, "tuning.r=2,4"]).is_ok
    assert [problem.key for problem in il.check([*TINY, "tuning.r=2,0"]).problems] == ["tuning.r"]
    assert not (lab / "runs").exists()


@pytest.mark.parametrize("call", [il.compose, il.check, il.train, il.sweep])
def test_one_text_instead_of_a_list_is_refused(lab, call):
    with pytest.raises(il.InstructLabError, match=r"\['tuning.r=4'\]"):
        call("tuning.r=4")


# ---- runs


def test_a_column_without_values_is_still_a_column():
    for rows in ([], [{"b": 1}], [{"c": 2, "b": 1}, {"a": 3}]):
        table = frame(rows, ["a", "b"])
        assert list(table.columns[:2]) == ["a", "b"]
        assert len(table) == len(rows)


@pytest.mark.slow
def test_a_run_gives_what_its_record_holds(two_runs):
    run, _ = two_runs
    summary = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))
    assert run.status == summary["status"] == "finished"
    assert len(run.metrics) == sum(len(systems) for systems in summary["metrics"].values())
    for metric, systems in summary["metrics"].items():
        for system, entry in systems.items():
            row = run.metrics.loc[(metric, system)]
            assert [row["value"], row["low"], row["high"]] == pytest.approx(
                [entry["value"], entry["low"], entry["high"]], nan_ok=True
            )
    lines = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert list(run.predictions["prediction"]) == [line["prediction"] for line in lines]
    assert set(run.predictions.columns) == {*lines[0], *lines[0]["scores"], "cluster"} - {"scores"}
    assert list(run.predictions["chrf"]) == [line["scores"]["chrf"] for line in lines]
    logged = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = {line["step"]: line["train/loss"] for line in logged if "train/loss" in line}
    assert run.curves["train/loss"].dropna().to_dict() == losses
    assert run.config["tuning"]["_target_"].endswith("LoRA")


@pytest.mark.slow
def test_generate_answers_as_the_command_does(two_runs, capfd):
    run, _ = two_runs
    prompts = ["Turn around number 1", "Turn around number 2"]
    answers = run.generate(prompts, max_new_tokens=5)
    command = ["generate", str(run.path), "--max-new-tokens", "5", *prompts]
    assert cli.main(command) == 0
    assert capfd.readouterr().out == "".join(f"{answer}\n" for answer in answers)
    with pytest.raises(il.ConfigError, match=r"generation\.max_tokens.*max_new_tokens"):
        run.generate(prompts, max_tokens=5)
    with pytest.raises(il.ConfigError, match=r"generation\.temperature"):
        run.generate(prompts, do_sample=True, temperature=-1.0)
    with pytest.raises(il.InstructLabError, match="list"):
        run.generate("Turn around number 1")


@pytest.mark.slow
def test_the_models_before_and_after_training_differ_and_fit_the_tokenizer(two_runs):
    import torch

    _, full = two_runs
    tuned, base = full.model(), full.model(base=True)
    ids = tuned.tokenizer("Turn around", return_tensors="pt").input_ids
    with torch.inference_mode():
        logits = [one.model(ids.to(one.model.device)).logits for one in (tuned, base)]
    assert not torch.equal(*logits)
    assert not tuned.model.training


def test_runs_are_loaded_found_and_compared(two_runs):
    run, full = two_runs
    assert il.load_run("latest").id == full.id
    assert il.load_run(run.path).id == run.id
    assert [one.id for one in il.find_runs("tuning=lora")] == [run.id]
    assert [one.id for one in il.find_runs()] == [run.id, full.id]
    compared = run.compare(full, metric="test/chrf")
    assert compared.best["test/chrf"] in (run.id, full.id)
    assert "test/chrf" in str(compared) == compared._repr_markdown_()
    with pytest.raises(il.InstructLabError, match="No run"):
        il.load_run("nothing-like-this")


@pytest.mark.slow
def test_a_run_is_evaluated_again(two_runs):
    first, second = two_runs
    chosen = ["evaluation.max_examples=3"]
    again = [run.evaluate(chosen, name="three") for run in (first, second)]
    assert set(again[0].metrics.loc[("test/chrf", "after")].index) == {"value", "low", "high", "count"}
    assert again[0].metrics.loc[("test/chrf", "after"), "count"] <= 3
    assert "test/chrf" in again[0].compare(again[1]).best
    for others in ([again[0]], [second, again[0]]):
        with pytest.raises(il.InstructLabError, match="its evaluation three"):
            first.compare(*others)
    with pytest.raises(il.InstructLabError, match="replace"):
        first.evaluate(["evaluation.max_examples=2"], name="three")
    assert first.evaluate(["evaluation.max_examples=2"], name="three", replace=True) == first


@pytest.mark.slow
def test_a_finished_run_is_made_longer(two_runs):
    run = il.train([*SHORT, "trainer.max_steps=1", "lr_scheduler=constant"])
    assert run.resume(max_steps=2).curves.index.max() == 2
    with pytest.raises(il.InstructLabError):
        run.resume()


def test_a_run_is_exported(two_runs, tmp_path):
    run, _ = two_runs
    folder = run.export(tmp_path / "model")
    assert (folder / "config.json").is_file()


@pytest.mark.slow
def test_a_run_trains_in_another_thread(two_runs):
    found = []
    thread = threading.Thread(target=lambda: found.append(il.train([*SHORT, "trainer.max_steps=1"])))
    thread.start()
    thread.join()
    assert [run.status for run in found] == ["finished"]


@pytest.mark.slow
def test_secrets_are_neither_printed_nor_recorded(two_runs, monkeypatch, capfd):
    monkeypatch.setenv("PLANTED_API_KEY", "planted-value-4711")
    run = il.train([*SHORT, "trainer.max_steps=1"])
    texts = [path.read_text(encoding="utf-8") for path in run.path.glob("*.*") if path.suffix != ".html"]
    output = capfd.readouterr()
    assert not any("planted-value-4711" in text for text in [*texts, output.out, output.err])
    assert run.path.stat().st_mode & 0o077 == 0


DDP = "pytorch_lightning.strategies.DDPStrategy"


def test_a_failed_run_raises_and_keeps_its_record(two_runs):
    with pytest.raises(il.InstructLabError, match="trainer"):
        il.train([*SHORT, f"++trainer.strategy={{_target_: {DDP}, start_method: spawn}}", "trainer.accelerator=cpu"])
    assert il.load_run().status == "failed"


def test_an_interruption_is_a_keyboard_interrupt(two_runs, monkeypatch):
    import signal

    from instruct_lab.training import run as running
    from instruct_lab.training.ending import Interrupted

    def interrupted(*_):
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(running, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt, match="resume"):
        il.train(SHORT)
    assert il.load_run().status == "interrupted"


@pytest.mark.slow
def test_warnings_are_printed(two_runs, capfd):
    assert il.check([*SHORT, "optimizer.lr=1.0"]).warnings
    il.train([*SHORT, "optimizer.lr=1.0", "trainer.max_steps=1"])
    assert "warning: optimizer.lr" in capfd.readouterr().err


# ---- sweeps


@pytest.mark.slow
def test_a_sweep_is_run_read_and_compared(two_runs, capfd):
    data = "data=path:rows.jsonl"
    sweep = il.sweep([*SHORT, data, "trainer.max_steps=1", "tuning.r=2,4", "sweep.metric=val/perplexity"])
    notes = [line for line in capfd.readouterr().err.splitlines() if line.startswith(f"{data}: ")]
    assert notes, "what was recognised in the file is printed"
    assert len(notes) == len(set(notes)), "and printed once"
    assert sweep.status == "finished"
    assert list(sweep.table["tuning.r"]) == [2, 4]
    assert set(sweep.table["status"]) == {"finished"}
    values = sweep.table["val/perplexity"]
    assert sweep.best.id == values.idxmin()
    assert il.load_sweep().id == sweep.id
    assert il.load_sweep(sweep.path).runs == sweep.runs
    assert "test/chrf" in str(sweep.compare("test/chrf"))
    with pytest.raises(il.InstructLabError, match="no sweep"):
        il.load_sweep("nothing-like-this")


def test_train_refuses_a_sweep_before_anything_runs(lab):
    with pytest.raises(il.InstructLabError):
        il.train([*TINY, "tuning.r=2,4"])
    with pytest.raises(il.InstructLabError, match="sweep"):
        il.train([*TINY, "sweep.seeds=2"])
    assert not (lab / "runs").exists()


def test_objects_are_frozen(two_runs):
    with pytest.raises(dataclasses.FrozenInstanceError):
        two_runs[0].record = None
