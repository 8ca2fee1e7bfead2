"""Predicted memory and FLOPs against torch's allocator and FLOP counter, on real steps of tiny models."""

import pytest
from support import measured_steps as accuracy
from support.exhaustive import exhaustive

from instruct_lab.batching.division import divide_batch
from instruct_lab.objective import chunks
from instruct_lab.planning.skeleton import build_skeleton
from instruct_lab.planning.step import StepSimulator

SIZE = "hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 192"
DECODER = [
    "model=tiny_random",
    f"model.weights.settings={{{SIZE}, max_position_embeddings: 512, vocab_size: 1024}}",
]
ENCODER = ["model=tiny_encoder", f"model.weights.settings={{{SIZE}, vocab_size: 1024}}", "objective=masked"]
NUM_EXAMPLES = 5
PAIRS = [*DECODER, "tuning=lora", "objective=dpo", "objective.reference=adapters_off", "data=local_preference"]
CASES = {
    "LoRA": ([*DECODER, "tuning=lora"], "plain"),
    "full, checkpointing, two micro-batches": (
        [*DECODER, "tuning=full", "model.gradient_checkpointing=full", "trainer.accumulate_grad_batches=2"],
        "plain",
    ),
    "pairs": (PAIRS, "pairs"),
    "masked encoder": ([*ENCODER, "tuning=full"], "masked"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_predicted_peak_is_that_of_the_allocator(name, tmp_path):
    overrides, kind = CASES[name]
    experiment = accuracy.experiment_of(overrides, tmp_path)
    batch = accuracy.batch_of(experiment, kind, NUM_EXAMPLES)
    predicted, _ = accuracy.predict(experiment, batch)
    measured, _ = accuracy.measure(experiment, batch, tmp_path)
    assert predicted == pytest.approx(measured, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"),
    [
        exhaustive("LoRA", []),
        *((name, []) for name in CASES if name != "LoRA"),
        *(("LoRA", [setting]) for setting in ("batching.micro_batch=2", "trainer.accumulate_grad_batches=3")),
    ],
)
def test_the_first_and_the_largest_parts_need_the_memory_of_the_whole_step(name, more, tmp_path):
    overrides, kind = CASES[name]
    experiment = accuracy.experiment_of([*overrides, *more], tmp_path)
    batch = accuracy.batch_of(experiment, kind, NUM_EXAMPLES)
    simulators = [StepSimulator(experiment, build_skeleton(experiment, tmp_path, None), "32-true") for _ in range(2)]
    micro = experiment.trainer.arguments.get("accumulate_grad_batches", 1)
    whole = [simulators[0].train(batch, micro) for _ in range(2)]
    parts = [simulators[1].train_at_peak(batch, micro) for _ in range(2)]
    assert [step.peak_bytes for step in parts] == pytest.approx([step.peak_bytes for step in whole], rel=0.005)
    assert all(len(few.operations) <= len(all_.operations) for few, all_ in zip(parts, whole, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_logits_in_chunks_are_predicted(tuning, tmp_path, monkeypatch):
    experiment = accuracy.experiment_of([*DECODER, f"tuning={tuning}"], tmp_path)
    batch = accuracy.batch_of(experiment, "plain", NUM_EXAMPLES)
    whole, of_whole = accuracy.predict(experiment, batch)
    for name in ("MOST_LOGITS", "MOST_LOGITS_OF_TRAINED"):
        monkeypatch.setattr(chunks, name, 50 * 1024)
    predicted, flops = accuracy.predict(experiment, batch)
    assert predicted < 0.9 * whole
    assert (flops > 1.01 * of_whole) is (tuning == "full")  # a trained projection is computed twice
    measured, _ = accuracy.measure(experiment, batch, tmp_path)
    assert predicted == pytest.approx(measured, rel=0.05)


@pytest.mark.slow
def test_the_predicted_flops_are_those_of_torchs_counter(tmp_path):
    experiment = accuracy.experiment_of([*DECODER, "tuning=lora", "model.attention=eager"], tmp_path)
    batch = accuracy.batch_of(experiment, "plain", NUM_EXAMPLES)
    _, predicted = accuracy.predict(experiment, batch)
    _, counted = accuracy.measure(experiment, batch, tmp_path)
    assert predicted == pytest.approx(counted, rel=0.02)


@pytest.mark.slow
def test_flops_of_a_step_follow_from_the_parameters(tmp_path):
    """A forward pass multiplies each position by each weight of a linear layer, a backward pass twice."""
    experiment = accuracy.experiment_of([*DECODER, "tuning=full"], tmp_path)
    batch = accuracy.batch_of(experiment, "plain", NUM_EXAMPLES)
    _, predicted = accuracy.predict(experiment, batch)
    shapes, (targets, width) = (
        [part.input_ids.shape for part in divide_batch(batch)],
        (int((batch.labels != -100).sum()), 64),
    )
    positions = sum(rows * length for rows, length in shapes)
    layers = 2 * (4 * width * width + 3 * width * 192)
    products = 6 * (positions * layers + targets * width * 1024)
    attention = 2 * 3.5 * 4 * sum(rows * length**2 for rows, length in shapes) * width  # q·k and weights·v
    assert positions < batch.input_ids.numel()  # rows of similar length are computed together
    assert predicted == pytest.approx(products + attention, rel=0.03)


@pytest.mark.slow
def test_nothing_is_allocated_for_the_weights(tmp_path):
    """The skeleton of a 7B model has its parameters, and no memory for them."""
    from instruct_lab.experiment.check import check
    from instruct_lab.planning.skeleton import build_skeleton

    experiment = check(["model=qwen2_5_7b_hub", "tracker=none"], is_for_another_machine=True).experiment
    skeleton = build_skeleton(experiment, tmp_path, None)
    total, trained = skeleton.count_parameters()
    assert total - trained == 7_615_616_512
    assert all(parameter.untyped_storage().device.type == "meta" for parameter in skeleton.loaded.model.parameters())
