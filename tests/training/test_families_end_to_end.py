"""Every family and kind of objective through the command line: trained, measured, recorded, used."""

import json

import pytest

from instruct_lab import cli


def summary(run):
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))["metrics"]


def steps(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def pairs(lab):
    text = (lab / "conf" / "data" / "mine.yaml").read_text(encoding="utf-8")
    text = text.replace("# mine: ", "# pairs: ").replace("rows.jsonl", "pairs.jsonl").replace("Alpaca", "Preference")
    (lab / "conf" / "data" / "pairs.yaml").write_text(text, encoding="utf-8")
    rows = [
        {"prompt": f"Say {n}", "chosen": f"the number {n * 3}", "rejected": f"no idea about {n}"} for n in range(60)
    ]
    (lab / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ["data=pairs", "metrics=preference"]


@pytest.mark.slow
def test_an_encoder_decoder_with_a_tokenizer_of_its_own(train, capsys):
    run = train(
        "model=tiny_encoder_decoder", "tokenizer=train", "model.tokenizer.vocab_size=420", "template=contents",
        "tuning=full", "metrics=translation",
    )  # fmt: skip
    assert summary(run)["test/perplexity"]["after"]["value"] < summary(run)["test/perplexity"]["before"]["value"]
    capsys.readouterr()
    assert cli.main(["generate", "latest", "Turn around number 1\nred green"]) == 0


@pytest.mark.slow
def test_an_encoder_is_evaluated_with_the_same_masks_before_and_after(train):
    masked = ["model=tiny_encoder", "template=contents", "objective=masked", "metrics=masked"]
    masked += [f"+model.weights.settings.{part}_dropout_prob=0.0" for part in ("hidden", "attention_probs")]
    first = train(*masked)
    smaller = ["batching.batch_size=4", "trainer.accumulate_grad_batches=2", "evaluation.batch_tokens=40"]
    again = train(*masked, *smaller)
    losses = [[line["train/loss"] for line in steps(run) if "train/loss" in line] for run in (first, again)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4), "masks do not depend on the batch size"
    before = [summary(run)["test/pseudo_perplexity"]["before"]["value"] for run in (first, again)]
    assert before[0] == pytest.approx(before[1], rel=1e-5)


@pytest.mark.slow
def test_preferences_increase_the_margin_and_it_is_logged_during_training(train, pairs):
    run = train(*pairs, "objective=dpo", "optimizer.lr=1e-2", "trainer.max_epochs=2")
    margin = summary(run)["test/margin"]
    assert margin["before"]["value"] == pytest.approx(0.0, abs=1e-4), "the untuned model against itself"
    assert margin["after"]["value"] > 0
    lines = [line for line in steps(run) if "val/margin" in line]
    assert lines
    assert "val/perplexity" not in lines[0], "the loss is no likelihood"
    assert any("train/accuracy" in line for line in steps(run))


@pytest.fixture
def labels(lab):
    text = (lab / "conf" / "data" / "mine.yaml").read_text(encoding="utf-8")
    text = text.replace("# mine: ", "# labels: ").replace("rows.jsonl", "labels.csv")
    (lab / "conf" / "data" / "labels.yaml").write_text(text.replace("Alpaca", "UnpairedPreference"), encoding="utf-8")
    answers = [(f"number {n * 3} it is,good", "never ever,bad")[n % 3 // 2] for n in range(100, 190)]
    rows = [f"Say {n},{answer}" for n, answer in enumerate(answers, start=100)]
    (lab / "labels.csv").write_text("\n".join(["prompt,completion,label", *rows]) + "\n", encoding="utf-8")
    return ["data=labels", "objective=kto", "optimizer.lr=1e-2"]


@pytest.mark.slow
def test_answers_with_a_label_are_trained_and_only_good_ones_are_compared_with(train, labels, capsys):
    run = train(*labels, "trainer.max_epochs=4")
    found = steps(run)
    values = {name for line in found for name in line}
    assert {"train/chosen_reward", "val/chosen_reward", "val/rejected_reward"} <= values
    assert not {"val/accuracy", "val/margin", "train/margin"} & values
    losses = [line["train/loss"] for line in found if "train/loss" in line]
    assert losses[0] == pytest.approx(0.5, abs=1e-3), "1 - s(0): the tuned model is the base model"
    rewards = [line["val/chosen_reward"] - line["val/rejected_reward"] for line in found if "val/chosen_reward" in line]
    assert rewards[-1] > 0.1, "good answers became more likely than bad ones"
    predictions = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert predictions
    assert all(int(one["prompt"].split()[1]) % 3 < 2 for one in predictions)
    assert cli.main(["generate", "latest", "Say 3"]) == 0


@pytest.mark.slow
def test_pairs_and_labels_are_mixed(train, lab, pairs, labels):
    mixed = "# mixed: both\ndefaults:\n  - /data@parts.pairs: pairs\n  - /data@parts.labels: labels\n  - _self_\n"
    mixed += "_target_: instruct_lab.data.Mixture\n"
    (lab / "conf" / "data" / "mixed.yaml").write_text(mixed, encoding="utf-8")
    run = train("data=mixed", *labels[1:], "metrics=likelihood", "batching.batch_size=4")
    assert {"train/chosen_reward", "train/margin"} <= {name for line in steps(run) for name in line}
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["status"] == "finished"


@pytest.mark.slow
def test_references_computed_before_training_equal_those_with_the_adapter_disabled(train, pairs):
    runs = [train(*pairs, "objective=dpo", f"objective.reference={how}") for how in ("precomputed", "adapters_off")]
    losses = [[line["train/loss"] for line in steps(run) if "train/loss" in line] for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    margins = [summary(run)["test/margin"]["after"]["value"] for run in runs]
    assert margins[0] == pytest.approx(margins[1], rel=1e-3)
    assert margins[0] != 0


@pytest.mark.slow
def test_a_reward_model_is_trained_and_evaluated_and_answers_nothing(train, pairs, capsys):
    run = train(*pairs, "objective=reward", "optimizer.lr=1e-2")
    assert summary(run)["test/accuracy"]["after"]["value"] >= summary(run)["test/accuracy"]["before"]["value"]
    assert cli.main(["generate", "latest", "x"]) == 2
    assert "gives no text" in capsys.readouterr().err


@pytest.mark.slow
def test_prompting_trains_nothing_and_shows_examples(train):
    run = train("tuning=few_shot", "batching.max_tokens=2048")
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["parameters"]["trained"] == 0
    metrics = summary(run)["test/perplexity"]
    assert metrics["before"]["value"] != metrics["after"]["value"], "the prompts differ"


@pytest.mark.slow
def test_virtual_tokens_are_exported_beside_the_model(train, lab):
    train("tuning=prompt_tuning")
    assert cli.main(["export", "latest", str(lab / "out")]) == 0
    assert (lab / "out" / "adapter_config.json").is_file()


@pytest.mark.slow
def test_a_teacher_is_used_and_not_saved(train):
    run = train("objective=distillation", "model@objective.teacher=tiny_random", "+objective.teacher.weights.seed=1")
    lines = steps(run)
    assert "val/perplexity" not in next(line for line in lines if "val/loss" in line)
    saved = list((run / "checkpoints").glob("last-*/*.safetensors"))
    assert saved
    assert sum(path.stat().st_size for path in saved) < 200_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "key", "reason"),
    [
        (["model=tiny_encoder"], "objective", "works with decoder and encoder-decoder"),
        (["objective=reward"], "metrics.bleu", "gives no text"),
        (["tuning=zero_shot", "objective=causal"], "tuning", "trains nothing"),
        (["objective=kto", "tuning=full"], "tuning", "switching adapters off"),
        (["objective=kto", "tuning=pissa"], "tuning", "changes the base weights"),
        (["objective=kto", "tuning.bias=all"], "tuning.bias", "leaves trained biases on"),
        (["objective=dpo", "batching.overlong=truncate_prompt"], "batching.overlong", "cannot be cut alike"),
        (["metrics=preference"], "metrics.accuracy", "computes no accuracy"),
        (["model=smollm2_135m", "tokenizer=train"], "model.tokenizer", "does not fit weights"),
        (["model.quantization=8bit", "tuning=full"], "model.quantization", "cannot be trained"),
        (["template=contents"], "template", "works with encoder and encoder-decoder"),
        (["objective=dpo", "callbacks.checkpoint.monitor=val/perplexity"], "callbacks.checkpoint.monitor", "no such"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_work_is_refused_with_its_reason(capsys, overrides, key, reason):
    assert cli.main(["check", "model=tiny_random", "--json", *overrides]) == 2
    errors = {error["key"]: error["reason"] for error in json.loads(capsys.readouterr().out)["errors"]}
    assert reason in errors.get(key, ""), errors


@pytest.mark.slow
def test_the_record_says_whether_code_came_with_the_weights(train):
    for trusted in (False, True):
        run = train(f"model.trust_remote_code={str(trusted).lower()}", "evaluation.before=false")
        assert json.loads((run / "manifest.json").read_text(encoding="utf-8"))["runs_remote_code"] is trusted


@pytest.mark.slow
def test_the_weight_of_a_message_weights_its_tokens_in_the_loss(lab, train):
    text = (lab / "conf" / "data" / "mine.yaml").read_text(encoding="utf-8")
    text = (
        text.replace("# mine: ", "# weighted: ").replace("rows.jsonl", "weighted.jsonl").replace("Alpaca", "Messages")
    )
    (lab / "conf" / "data" / "weighted.yaml").write_text(text, encoding="utf-8")

    def first_loss(weights, *overrides):
        rows = [
            {
                "messages": [
                    {"role": "user", "content": f"Say {n}"},
                    {"role": "assistant", "content": f"One {n}", "weight": weights[0]},
                    {"role": "user", "content": "And more"},
                    {"role": "assistant", "content": f"It is the other number, which is {n * 3}", "weight": weights[1]},
                ]
            }
            for n in range(60)
        ]
        (lab / "weighted.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        lines = steps(train("data=weighted", "metrics=none", "trainer.max_steps=1", *overrides))
        return next(line["train/loss"] for line in lines if "train/loss" in line)

    plain, halved, uneven = first_loss((1, 1)), first_loss((0.5, 0.5)), first_loss((8, 0.5))
    assert halved == pytest.approx(plain, rel=1e-6)
    assert abs(uneven - plain) > 1e-4
    assert first_loss((8, 0.5), "objective.message_weights=false") == pytest.approx(plain, rel=1e-6)


WIDE = [f"model.weights.settings.{name}_size=64" for name in ("hidden", "intermediate")]
"""What weights in 4 bits need on a CPU."""


@pytest.mark.slow
def test_qlora_trains_adapters_on_weights_of_four_bits(train):
    run = train("tuning=qlora", *WIDE, "optimizer.lr=1e-2")
    losses = [line["train/loss"] for line in steps(run) if "train/loss" in line]
    plain = [line["train/loss"] for line in steps(train(*WIDE, "optimizer.lr=1e-2")) if "train/loss" in line]
    assert losses[0] != plain[0], "the weights are rounded"
    assert losses[0] == pytest.approx(plain[0], rel=0.05)
    assert losses[-1] < losses[0]
    assert cli.main(["generate", str(run), "x"]) == 0


@pytest.mark.slow
def test_prompting_reads_quantised_weights(train):
    run = train("tuning=zero_shot", *WIDE, "model.quantization=4bit", "evaluation.before=false")
    assert json.loads((run / "manifest.json").read_text(encoding="utf-8"))["parameters"]["trained"] == 0


def test_a_check_refuses_a_folder_of_pickled_weights(lab, capsys):
    folder = lab / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "pytorch_model.bin").write_bytes(b"")
    chosen = ["check", "data=mine", "model=local_folder", f"model.weights.path={folder}", "--json"]
    assert cli.main(chosen) == 2
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert error["key"] == "model.weights.path"
    assert "model.allow_pickle=true" in error["reason"]
    assert cli.main([*chosen, "model.allow_pickle=true"]) == 0


@pytest.mark.slow
def test_the_example_of_the_tutorials_is_learned_and_answered(lab, train, capsys):
    french = {
        "I love NLP.": "J'aime le TAL.", "Good morning.": "Bonjour.", "Where is he?": "Où est-il ?"
    }  # fmt: skip
    rows = [{"instruction": f"Translate this sentence to French: {text}", "output": french[text]} for text in french]
    (lab / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    option = (lab / "conf" / "data" / "mine.yaml").read_text(encoding="utf-8").partition("split:")[0]
    (lab / "conf" / "data" / "mine.yaml").write_text(option, encoding="utf-8")
    train(
        "model=tiny_encoder_decoder", "model.weights.settings.d_model=64", "model.weights.settings.d_ff=128",
        "+model.weights.settings.dropout_rate=0.0", "template=contents", "tuning=full", "optimizer.lr=1e-2",
        "lr_scheduler=constant", "trainer.max_epochs=140", "metrics=none",
        "callbacks.checkpoint.monitor=null", "evaluation.checkpoint=last", "evaluation.splits=[]",
        "generation.max_new_tokens=24",
    )  # fmt: skip
    capsys.readouterr()
    assert cli.main(["generate", "latest", "Translate this sentence to French: I love NLP."]) == 0
    assert capsys.readouterr().out.strip() == "J'aime le TAL."
