"""Compare the memory and FLOPs that `plan` predicts with those of real training steps on the CPU.

    python tests/benchmarks/plan_accuracy.py            # all configurations
    python tests/benchmarks/plan_accuracy.py dpo t5     # those whose names contain one of these words

Memory: Lightning trains three steps under torch's profiler, which reports every allocation of torch's CPU allocator;
the weights, which exist before, are added. FLOPs: `torch.utils.flop_counter` counts the products of one real step; it
knows no fused attention on CPUs, so FLOPs are compared with attention in plain products.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.measured_steps import batch_of, experiment_of, measure, predict

SIZE = "hidden_size: 256, num_hidden_layers: 6, num_attention_heads: 4, intermediate_size: 768"
DECODER = [
    "model=tiny_random",
    f"model.weights.settings={{{SIZE}, num_key_value_heads: 2, max_position_embeddings: 2048, vocab_size: 8192}}",
]
BART = [
    "model=tiny_bart",
    "model.weights.settings={d_model: 256, encoder_layers: 4, decoder_layers: 4, encoder_ffn_dim: 768, "
    "decoder_ffn_dim: 768, encoder_attention_heads: 4, decoder_attention_heads: 4, vocab_size: 8192}",
]
T5 = ["model=tiny_encoder_decoder", "model.weights.settings={d_model: 256, d_ff: 768, num_layers: 4, vocab_size: 8192}"]
BERT = ["model=tiny_encoder", f"model.weights.settings={{{SIZE}, vocab_size: 8192}}", "objective=masked"]
CASES: dict[str, tuple[list[str], str]] = {
    "llama full": ([*DECODER, "tuning=full"], "plain"),
    "llama LoRA": ([*DECODER, "tuning=lora"], "plain"),
    "llama LoRA checkpointing": ([*DECODER, "tuning=lora", "model.gradient_checkpointing=full"], "plain"),
    "llama full checkpointing": ([*DECODER, "tuning=full", "model.gradient_checkpointing=full"], "plain"),
    "llama DoRA": ([*DECODER, "tuning=dora"], "plain"),
    "llama last layers": ([*DECODER, "tuning=train_last_layers"], "plain"),
    "llama LoRA eager": ([*DECODER, "tuning=lora", "model.attention=eager"], "plain"),
    "llama LoRA accumulation": ([*DECODER, "tuning=lora", "trainer.accumulate_grad_batches=2"], "plain"),
    "llama LoRA packed": ([*DECODER, "tuning=lora", "batching=packed"], "plain"),
    "llama full in micro-batches of 3": ([*DECODER, "tuning=full", "batching.micro_batch=3"], "plain"),
    "llama full lion": ([*DECODER, "tuning=full", "optimizer=lion"], "plain"),
    "llama full simpo": ([*DECODER, "tuning=full", "objective=simpo", "data=local_preference"], "pairs"),
    "llama LoRA dpo adapters off": (
        [*DECODER, "tuning=lora", "objective=dpo", "objective.reference=adapters_off", "data=local_preference"],
        "pairs",
    ),
    "bart full": ([*BART, "tuning=full"], "plain"),
    "bart LoRA": ([*BART, "tuning=lora"], "plain"),
    "t5 full": ([*T5, "tuning=full"], "plain"),
    "bert full masked": ([*BERT, "tuning=full"], "masked"),
    "135M LoRA": (["model=smollm2_135m", "tuning=lora"], "plain"),
    "135M full": (["model=smollm2_135m", "tuning=full"], "plain"),
}


def main(words: list[str]) -> int:
    """Print one line for each case; return 1 if one differs by more than 5% (memory) or 2% (FLOPs)."""
    failed = 0
    print(f"{'':<30}{'predicted MiB':>15}{'measured':>10}{'error':>8}{'FLOPs error':>13}")
    for name, (overrides, kind) in CASES.items():
        if words and not any(word in name for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            experiment = experiment_of(overrides, Path(folder))
            batch = batch_of(experiment, kind)
            predicted, _ = predict(experiment, batch)
            measured, _ = measure(experiment, batch, Path(folder))
            eager = experiment_of([*overrides, "model.attention=eager"], Path(folder))
            counted, real = predict(eager, batch)[1], measure(eager, batch, Path(folder))[1]
        error, flops_error = predicted / measured - 1, counted / real - 1
        failed += abs(error) > 0.05 or abs(flops_error) > 0.02
        print(f"{name:<30}{predicted / 2**20:>15.1f}{measured / 2**20:>10.1f}{error:>+8.1%}{flops_error:>+13.2%}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
