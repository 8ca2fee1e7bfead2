"""Write the table of memory by model and method in docs/gpus.md, as `plan` estimates it.

Command: python tests/benchmarks/plan_table.py
Each cell is the peak in GiB of a step of 8 examples of 1,024 tokens, half of them target tokens, in bf16-mixed.
"""

from pathlib import Path

from instruct_lab.experiment.check import check
from instruct_lab.planning.catalogue import find_device
from instruct_lab.planning.estimate import estimate
from instruct_lab.planning.workload import assumed_workload

MODELS = {
    "smollm2_135m_hub": "135M",
    "qwen2_5_0_5b_hub": "0.5B",
    "llama3_2_1b_hub": "1.2B",
    "llama3_2_3b_hub": "3.2B",
    "qwen2_5_7b_hub": "7.6B",
}
METHODS = {
    "`full`": ["tuning=full", "model.dtype=float32"],
    "`full`, checkpointing": ["tuning=full", "model.dtype=float32", "model.gradient_checkpointing=full"],
    "`lora`": ["tuning=lora"],
    "`lora`, checkpointing": ["tuning=lora", "model.gradient_checkpointing=full"],
    "`qlora`, checkpointing": ["tuning=qlora", "model.gradient_checkpointing=full"],
}


def main():
    """Print the table."""
    print("| model | " + " | ".join(METHODS) + " |")
    print("|---|" + "---|" * len(METHODS))
    device = find_device("h100-80gb")
    for model, size in MODELS.items():
        cells = []
        for overrides in METHODS.values():
            config = [f"model={model}", "tracker=none", "trainer.max_steps=1", *overrides]
            experiment = check(config, is_for_another_machine=True).experiment
            workload = assumed_workload(experiment, "the table has one length")
            cache_path = Path(experiment.cache_path).expanduser()
            found = estimate(experiment, workload, device, precision="bf16-mixed", cache_path=cache_path)
            cells.append(f"{found.peak_bytes / 2**30:.1f}")
        print(f"| `{model}` ({size}) | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
