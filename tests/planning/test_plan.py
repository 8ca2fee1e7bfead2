"""Plans of whole runs through the command line."""

import json

import pytest

from instruct_lab import cli
from instruct_lab.planning.architecture import descriptions
from instruct_lab.planning.skeleton import untie_output

TINY = ["model=tiny_random", "model.weights.settings.num_hidden_layers=1", "tracker=none", "data=mine"]
SHORT = ["trainer.max_steps=10", "batching.max_tokens=64"]
PUBLISHED = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B-Instruct-2507": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "google/gemma-3-270m-it": 268_098_176,
    "google/gemma-3-1b-it": 999_885_952,
    "allenai/OLMo-2-0425-1B-Instruct": 1_484_916_736,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "google-t5/t5-small": 60_506_624,
    "google/flan-t5-small": 76_961_152,
    "google/flan-t5-base": 247_577_856,
    "facebook/bart-base": 139_420_416,
    "google-bert/bert-base-uncased": 109_514_298,
}


def plan(capsys, *arguments):
    assert cli.main(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_the_described_architectures_have_the_published_numbers_of_parameters():
    import torch
    import transformers

    from instruct_lab.model.family import family_of_config

    kinds = {"decoder": "CausalLM", "encoder-decoder": "Seq2SeqLM", "encoder": "MaskedLM"}
    found = {}
    for name in PUBLISHED:
        fields = dict(descriptions()[name])
        config = transformers.CONFIG_MAPPING[fields.pop("model_type")](**fields)
        with torch.device("meta"):
            model = getattr(transformers, f"AutoModelFor{kinds[family_of_config(config)]}").from_config(config)
        if descriptions()[name].get("tie_word_embeddings") is False:
            untie_output(model)
        found[name] = sum(parameter.numel() for parameter in model.parameters())
    assert found == PUBLISHED


@pytest.mark.slow
def test_a_plan_has_all_parts_and_fits(lab, capsys):
    found = plan(capsys, *TINY, "--device", "t4")
    assert found["fits"]
    assert found["peak_bytes"] == sum(found["memory"].values()) < found["usable_bytes"]
    assert set(found["memory"]) == {"weights", "gradients", "optimizer", "activations", "logits", "buffers"}
    assert found["precision"] == "32-true"  # a T4 does not compute bfloat16
    assert found["num_steps"] > 0
    assert found["target_tokens"] <= found["tokens"]
    assert cli.main(["check", *TINY]) == 0
    assert "fits into 14 GiB" in capsys.readouterr().out  # check shows the last plan
    assert found["seconds"] == pytest.approx(sum(found["times"].values()), abs=0.01)


@pytest.mark.slow
def test_a_run_without_training_has_no_steps_and_no_time_for_them(lab, capsys):
    found = plan(capsys, *TINY, "tuning=zero_shot", "--device", "t4")
    assert (found["num_steps"], found["flops"], found["tokens"], found["peak_at"]) == (0, 0, 0, "evaluation")
    assert set(found["times"]) == {"start and end", "evaluation"}


@pytest.mark.slow
def test_beams_samples_and_worked_examples_cost_time_and_what_is_not_counted_is_named(lab, capsys):
    usual = [*TINY, "tuning=zero_shot", "generation.max_new_tokens=16", "--device", "t4"]
    greedy, beams, samples, shots, judged = (
        plan(capsys, *usual, *more)
        for more in (
            [],
            ["generation.num_beams=200"],
            ["generation.do_sample=true", "generation.num_samples=200"],
            ["tuning.shots=3"],
            ["metrics=judge_local"],
        )
    )
    assert beams["times"] == samples["times"]
    assert greedy["seconds"] < shots["seconds"] < beams["seconds"]
    assert judged["assumptions"] == ["the time of judges is not counted"]
    assert not greedy["assumptions"]


@pytest.mark.slow
def test_more_devices_share_the_steps_and_cost_the_exchange(lab, capsys):
    two_layers = [TINY[0], *TINY[2:]]  # one layer has few gradients to exchange
    one = plan(capsys, *two_layers, "batching.batch_size=2", "--device", "h100-80gb")
    two = plan(
        capsys, *two_layers, "batching.batch_size=2", "--device", "h100-80gb", "--devices", "2", "--price-per-hour", "3"
    )
    assert two["num_steps"] == -(-one["num_steps"] // 2)
    assert two["memory"]["buffers"] > one["memory"]["buffers"]
    assert two["cost"] == pytest.approx(two["seconds"] / 3600 * 2 * 3)


@pytest.mark.slow
def test_a_sharded_model_keeps_a_share_of_the_optimizer_on_each_device(lab, capsys):
    full = [*TINY, "tuning=full", "batching.batch_size=2", "--device", "h100-80gb"]
    one = plan(capsys, *full)["memory"]
    four = plan(capsys, *full, "trainer=fsdp", "--devices", "4")["memory"]
    assert four["optimizer"] == one["optimizer"] // 4
    assert four["gradients"] < one["gradients"]
    assert four["buffers"] <= one["buffers"], "no copy for the exchange of gradients, unlike ddp"


@pytest.mark.slow
def test_sharded_weights_are_gathered_in_each_pass(lab, capsys, tmp_path):
    device = tmp_path / "slow_links.yaml"
    device.write_text(
        "label: slow links\nmemory_gib: 8\nteraflops: {float32: 1}\ngigabytes_per_second: 100\n"
        "interconnect_gigabytes_per_second: 1e-6\nreached_share: 0.5\n"
    )
    common = [*TINY, "tuning=full", "batching.batch_size=2", "--device", str(device), "--devices", "4"]
    ddp, whole, halves = (
        plan(capsys, *common, *more)
        for more in (["trainer=ddp"], ["trainer=fsdp"], ["trainer=fsdp", "batching.micro_batch=1"])
    )
    weights = 4 * ddp["total_parameters"]
    of_exchange = ddp["num_steps"] * 3 / 4 * weights / 1e3  # ddp: the gradients twice; fsdp: 2 weights + 1 gradients
    assert whole["times"]["training"] - ddp["times"]["training"] == pytest.approx(of_exchange, rel=1e-3)
    assert halves["times"]["training"] - ddp["times"]["training"] == pytest.approx(4 * of_exchange, rel=1e-3)


@pytest.mark.slow
def test_a_run_that_does_not_fit_gets_changes_that_make_it_fit(lab, capsys, tmp_path):
    config = [*TINY, "batching.batch_size=8", "evaluation.batch_tokens=64"]
    full = plan(capsys, *config, "--device", "t4")
    file = tmp_path / "small.yaml"
    gib = 0.6 * full["peak_bytes"] / 2**30
    file.write_text(
        f"label: small\nmemory_gib: {gib}\nreserved_gib: 0\nteraflops: {{float32: 1}}\ngigabytes_per_second: 10\n"
    )
    found = plan(capsys, *config, "--device", str(file))
    assert not found["fits"]
    first = found["remedies"][0]
    assert first["fits"]
    assert first["overrides"][0].startswith("batching.micro_batch=")
    assert first["num_steps"] == found["num_steps"]
    again = plan(capsys, *config, *first["overrides"], "--device", str(file))
    assert again["fits"]
    assert again["peak_bytes"] == first["peak_bytes"]


@pytest.mark.slow
def test_a_model_whose_tokenizer_is_not_here_is_planned_with_assumed_lengths(capsys):
    found = plan(capsys, "model=qwen2_5_0_5b_hub", "tracker=none", *SHORT, "--device", "h100-80gb")
    assert found["total_parameters"] - found["trained_parameters"] == 494_032_768
    assert found["tokens"] == 10 * 8 * 64
    assert any("because the tokenizer is not on this machine" in text for text in found["assumptions"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--device", "h100-80"], "did you mean h100-80gb"),
        (["--device", "A100"], "did you mean a100-40gb or a100-80gb"),
        (["--device", "t4", "model=tiny_random", "trainer.precision=bf16-mixed"], "has no bfloat16 arithmetic"),
        (["--devices", "0"], "at least one device"),
        (["--price-per-hour", "-1"], "no price"),
        (["model=hub", "model.weights.repository=nobody/gated-model"], "needs the model's config.json"),
    ],
)
def test_bad_input_is_refused_in_one_paragraph(capsys, arguments, reason):
    assert cli.main(["plan", "tracker=none", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    (error,) = [line for line in lines if not line.startswith("instruct-lab plan:")]  # how long libraries take to load
    assert reason in error
