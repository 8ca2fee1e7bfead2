"""`export` writes each format from a run, refuses what a format cannot hold, and measures what was written."""

import json

import pytest
from support.lab import TINY, new_lab

from instruct_lab import cli
from instruct_lab.export.quality import compare
from instruct_lab.generation import Prediction
from instruct_lab.metrics import ExactMatch
from instruct_lab.model.weights.gguf import read_model
from instruct_lab.model.weights.gguf_tokenizer import read_tokenizer
from instruct_lab.records import Measurement

pytestmark = pytest.mark.slow
OPTIONS = ["tokenizer=train", "model.tokenizer.vocab_size=400", "trainer.max_steps=3", "optimizer.lr=0.02"]
SHORT = ["evaluation.before=false", "evaluation.baselines=false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with one run whose tokenizer has merges; the command runs there."""
    with new_lab(tmp_path_factory.mktemp("formats")) as folder:
        assert cli.main(["train", *TINY, *OPTIONS, *SHORT]) == 0
        yield folder


def rows_of(text):
    """The numbers of the printed table: tuned model, export, difference."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line][1:]
    cells = [line.strip("| ").split("|") for line in lines]
    return {name.strip(): [float(one.split()[0]) for one in values[:3]] for name, *values in cells}


@pytest.mark.parametrize(
    "options", [[], ["--format", "adapter"], ["--format", "vllm"], ["--format", "gguf", "--gguf-type", "f32"]]
)
def test_an_exact_export_loses_nothing(run, capsys, options):
    out = run / f"exact-{'-'.join(options)}"
    capsys.readouterr()
    assert cli.main(["export", "latest", str(out), *options, "--measure"]) == 0
    text = capsys.readouterr().out
    assert "equal answers: 4 of 4" in text
    rows = rows_of(text)
    assert {"perplexity", "chrf"} <= set(rows)
    assert all(abs(row[2]) <= 1e-3 * max(1, abs(row[0])) for row in rows.values())
    assert "## Loss of quality" in (out / "README.md").read_text()


def test_four_bits_lose_something_that_is_measured(run, capsys):
    capsys.readouterr()
    assert cli.main(["export", "latest", str(run / "q4"), "--format", "gguf", "--gguf-type", "q4_0", "--measure"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["perplexity"][0] != rows["perplexity"][1]
    assert rows["perplexity"][2] == pytest.approx(rows["perplexity"][1] - rows["perplexity"][0], abs=2e-4)


def test_a_gguf_folder_answers_as_the_run_does(run, capsys):
    """The file is read and generates by transformers; the answers are those of the command `generate`."""
    import torch

    out = run / "answers"
    assert cli.main(["export", "latest", str(out), "--format", "gguf", "--gguf-type", "f32"]) == 0
    captured = capsys.readouterr()
    assert "llama-cli -m" in captured.err
    file = out / "model-f32.gguf"
    model, tokenizer = read_model(file, "m"), read_tokenizer(file, "m")
    for prompt in ("red", "Turn around number 7", "é"):
        assert cli.main(["generate", "latest", prompt]) == 0
        expected = capsys.readouterr().out.removesuffix("\n")
        chat = [{"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            ids = model.generate(**inputs, do_sample=False, max_new_tokens=6, eos_token_id=tokenizer.eos_token_id)[0]
        text = tokenizer.decode(ids[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert text == expected
    written = ["README.md", "instruct_lab_config.json", "instruct_lab_versions.json", "model-f32.gguf"]
    assert sorted(path.name for path in out.iterdir()) == written


def test_ollama_and_vllm_folders_say_how_to_run_them(run, capsys):
    assert cli.main(["export", "latest", str(run / "ollama"), "--format", "ollama", "--gguf-type", "q8_0"]) == 0
    error = capsys.readouterr().err
    assert "ollama create" in error
    text = (run / "ollama" / "Modelfile").read_text()
    assert text.startswith("FROM ./model-q8_0.gguf\n")
    assert (run / "ollama" / "model-q8_0.gguf").is_file()
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert "PARAMETER num_predict 6" in text
    assert cli.main(["export", "latest", str(run / "vllm"), "--format", "vllm"]) == 0
    card = (run / "vllm" / "README.md").read_text()
    assert f"vllm serve {run / 'vllm'}" in card
    assert "--dtype float32" in card
    assert json.loads((run / "vllm" / "generation_config.json").read_text())["eos_token_id"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--format", "hf", "--gguf-type", "f16"], "--gguf-type"),
        (["--format", "hf", "--keep-adapter"], "--keep-adapter"),
        (["--max-examples", "3"], "--measure"),
        (["--max-examples", "0", "--measure"], "from 1 up"),
    ],
)
def test_options_without_effect_are_refused_before_anything_is_written(run, capsys, options, expected):
    assert cli.main(["export", "latest", str(run / "refused"), *options]) == 2
    assert expected in capsys.readouterr().err
    assert not (run / "refused").exists()


@pytest.mark.parametrize(
    ("options", "form", "expected"),
    [
        (["model=tiny_bart", "template=contents", "metrics=perplexity"], "gguf", "encoder-decoder"),
        (["tuning=prompt_tuning"], "gguf", "adapter"),
        (["tuning=full"], "adapter", "no adapter"),
        ([], "gguf", "no merges"),
    ],
    ids=["encoder-decoder", "prompt-tuning", "full", "bytes"],
)
def test_a_format_that_cannot_hold_the_model_is_refused_and_nothing_is_left(
    lab, train, capsys, options, form, expected
):
    train("trainer.max_steps=1", *SHORT, *options)
    assert cli.main(["export", "latest", str(lab / "out"), "--format", form]) == 2
    assert expected in capsys.readouterr().err
    assert [path.name for path in lab.iterdir() if "out" in path.name] == []


def test_the_paired_loss_is_the_difference_on_the_same_examples():
    def measured(texts):
        metric = ExactMatch()
        predictions = [Prediction(str(i), "test", "p", text, ("yes",)) for i, text in enumerate(texts)]
        return Measurement(predictions, {"exact_match": [metric.of_prediction(one) for one in predictions]}, [])

    before, after = measured(["yes"] * 6 + ["no"] * 4), measured(["yes"] * 3 + ["no"] * 7)
    loss = compare({"exact_match": ExactMatch()}, "test", before, after)
    value, exported, difference = loss.metrics["exact_match"]
    assert (value.value, exported.value, difference.value) == pytest.approx((60, 30, -30))
    assert difference.low < -30 < difference.high
    assert (loss.num_equal, loss.count) == (7, 10)
    same = compare({"exact_match": ExactMatch()}, "test", before, before)
    assert same.metrics["exact_match"][2].low == same.metrics["exact_match"][2].high == 0


def test_the_loss_is_printed_as_json_too(run, capsys):
    capsys.readouterr()
    out = str(run / "json")
    assert cli.main(["export", "latest", out, "--format", "gguf", "--measure", "--max-examples", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["path"], result["format"], result["loss"]["count"]) == (out, "gguf", 2)
    tuned, exported, difference = result["loss"]["metrics"]["perplexity"]
    assert difference["value"] == pytest.approx(exported["value"] - tuned["value"])
    assert difference["low"] <= difference["value"] <= difference["high"]
