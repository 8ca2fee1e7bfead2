"""What a training step costs with shared prefixes computed once and computed in every row.

Commands:
    python tests/benchmarks/shared_prefix.py [STEPS]
    python tests/benchmarks/shared_prefix.py break-even
The default model (downloaded at first use) with LoRA, and training batches of two data sets and of synthetic pairs.
Each batch is computed both ways in alternation, by one thread. Printed are medians, and the largest differences of loss
and gradient. The second command finds the prefix from which sharing pays, with batches of 8 rows of 57 random tokens.
"""

import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from synthetic import conversations

from instruct_lab.batching import IGNORED, Batch, prefixes
from instruct_lab.data import Audit
from instruct_lab.experiment.check import check
from instruct_lab.training.datamodule import InstructionData

WORKLOADS = {
    "short": ["data=interface_fr", "data.limit.train=128"],
    "medium": ["data=stdlib_functions", "data.limit.train=64"],
    "pairs": ["data=local_preference", "objective=cpo", "batching.batch_size=4"],
}


class Steps:
    """Training steps of one config, with and without shared prefixes."""

    def __init__(self, overrides):
        self.experiment = check(overrides).or_refuse().experiment
        self.cache = Path(self.experiment.cache_path).expanduser()
        self.tokenizer = self.experiment.model.load_tokenizer(self.cache)
        torch.manual_seed(0)
        self.model = self.experiment.tuning.apply(self.experiment.model.load(self.tokenizer, self.cache)).model.train()
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=0.0, fused=True)

    def batches(self):
        """The batches of the first epoch."""
        data = InstructionData(self.experiment, self.tokenizer, self.cache, Audit())
        return list(data._loader("train"))

    def step(self, batch):
        """One step; gives its seconds, the seconds of processor time, the loss and the gradient."""
        self.optimizer.zero_grad()
        started, cpu = time.perf_counter(), time.process_time()
        loss = self.experiment.objective.loss(self.model, batch).sums.sum()
        loss.backward()
        self.optimizer.step()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        gradient = torch.cat([one.grad.flatten() for one in self.trained if one.grad is not None])
        return seconds, cpu, float(loss.detach()), gradient

    def kept_bytes(self, batch):
        """The bytes that the forward pass keeps for the backward pass, without parameters."""
        sizes = {}

        def pack(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.experiment.objective.loss(self.model, batch).sums.sum()
        for parameter in self.model.parameters():
            sizes.pop(parameter.untyped_storage().data_ptr(), None)
        del loss
        return sum(sizes.values())

    def compare(self, batches):
        """Compute each batch in both ways."""
        ways = {"off": [], "auto": []}
        losses, gradients = [], []
        self.step(batches[0])
        for number, batch in enumerate(batches):
            results = {}
            for way in list(ways)[:: 1 if number % 2 else -1]:
                results[way] = self.step(batch if way == "auto" else dataclasses.replace(batch, prefixes=None))
                ways[way].append(results[way])
            first, second = results.values()
            losses.append(abs(first[2] - second[2]) / abs(first[2]))
            gradients.append(float((first[3] - second[3]).norm() / first[3].norm()))
        medians = {way: [statistics.median(one[part] for one in ways[way]) for part in (0, 1)] for way in ways}
        largest = max(batches, key=lambda batch: batch.input_ids.numel())
        alike = dataclasses.replace(largest, prefixes=None)
        memory = {way: self.kept_bytes(used) / 1e6 for way, used in (("off", alike), ("auto", largest))}
        return medians, memory, max(losses), max(gradients)


def write_pairs(path, count=60):
    """Write preference pairs of synthetic conversations: two answers to each prompt."""
    rows = []
    for question, answer in conversations(count, short=True):
        rows.append({"prompt": question["content"], "chosen": answer["content"], "rejected": answer["content"][::-1]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def workloads(num_steps):
    """Print a row for each workload."""
    pairs = Path(tempfile.mkdtemp()) / "pairs.jsonl"
    write_pairs(pairs)
    WORKLOADS["pairs"].append(f"data.train.file.path={pairs}")
    for name, overrides in WORKLOADS.items():
        steps = Steps(overrides)
        batches = steps.batches()[:num_steps]
        padded = sum(batch.input_ids.numel() for batch in batches)
        tokens = sum(int(batch.attention_mask.sum()) for batch in batches)
        saved = sum(batch.prefixes.num_saved for batch in batches if batch.prefixes is not None)
        levels = [0 if batch.prefixes is None else len(batch.prefixes.levels) for batch in batches]
        medians, memory, loss, gradient = steps.compare(batches)
        print(
            f"{name}: {len(batches)} steps, {tokens} tokens in {padded} positions, {saved / padded:.0%} saved "
            f"in {max(levels)} levels; seconds a step {medians['off'][0]:.3f} and {medians['auto'][0]:.3f} "
            f"({medians['off'][0] / medians['auto'][0]:.2f} times), processor {medians['off'][1]:.3f} and "
            f"{medians['auto'][1]:.3f} ({medians['off'][1] / medians['auto'][1]:.2f} times), kept for the "
            f"backward pass of the largest batch {memory['off']:.0f} and {memory['auto']:.0f} MB; "
            f"loss within {loss:.1e}, gradient within {gradient:.1e}",
            flush=True,
        )


def break_even():
    """Print what sharing saves by the length of the prefix, in positions."""
    prefixes.PASS_POSITIONS = -(10**9)
    steps = Steps(WORKLOADS["short"])
    rows, width = 8, 57
    for length in (2, 4, 8, 16):
        batches = []
        for _ in range(6):
            ids = torch.randint(10, 1000, (rows, width))
            ids[:, :length] = ids[0, :length]
            labels = torch.where(torch.arange(width) < width - 12, IGNORED, ids)
            tree = prefixes.share_prefixes(ids, torch.full((rows,), width))
            tree = tree if tree is None or len(tree.levels) == 2 else None
            batches.append(Batch(ids, torch.ones_like(ids), labels, prefixes=tree))
        medians, _, _, _ = steps.compare([batch for batch in batches if batch.prefixes is not None])
        a_position = medians["off"][1] / (rows * width)
        gained = (medians["off"][1] - medians["auto"][1]) / a_position
        print(f"prefix {length}: saves {length * (rows - 1)} positions, gains the time of {gained:.0f}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)  # so that processor time is comparable beside other work
    if sys.argv[1:] == ["break-even"]:
        break_even()
    else:
        workloads(int(sys.argv[1]) if sys.argv[1:] else 12)
