"""The sides of `throughput.py`: what each of its processes does.

Every side trains the same model, from the same weights of the trained parameters, on the same examples, and writes a
JSON file with what each step cost. `Clock` is the callback that measures a run of `instruct-lab train`.
"""

import dataclasses
import json
import os
import random
import sys
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from same_rows import write_rows
from torch import nn

FOLDER = Path(os.environ.get("THROUGHPUT_FOLDER", "."))
"""The folder in which `prepare` has left the model, the examples, the weights and the settings."""
IGNORED = -100
SCORED = 16
"""Examples on which the loss after the last step is computed."""


@dataclasses.dataclass
class Settings:
    """The settings of training that all sides share."""

    tuning: str
    batch_size: int
    steps: int
    lr: float
    r: int = 16
    alpha: float = 32.0
    clip: float = 1.0

    @classmethod
    def read(cls):
        """Read the settings that `prepare` has written."""
        return cls(**json.loads((FOLDER / "settings.json").read_text()))


def batches_of_examples():
    """The batches of examples that our loader draws, in its order."""
    return json.loads((FOLDER / "batches.json").read_text())


class Measured:
    """Seconds, tokens and positions of the steps of one side.

    The first step, in which libraries allocate and choose what they keep, is not counted.
    """

    def __init__(self):
        self.settings = Settings.read()
        self.tokens, self.positions, self.marks = [], 0, []

    def start(self, model):
        """Set the trained parameters to their common first values, and count the positions that the model computes."""
        first = torch.load(FOLDER / "start.pt")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(first.pop(name))
        assert not first, f"{len(first)} parameters are not trained by this side"
        embedding = model.get_input_embeddings()
        embedding.register_forward_pre_hook(self._count)

    def _count(self, module, arguments):
        self.positions += arguments[0].numel()

    def end_step(self):
        """Note what has been used up to the end of a step."""
        if not self.marks:
            Path("/proc/self/clear_refs").write_text("5")  # the highest memory is that of the steps, not of loading
        self.marks.append((time.process_time(), time.perf_counter(), self.positions))

    @property
    def is_done(self):
        """Whether all steps are measured."""
        return len(self.marks) == self.settings.steps

    def finish(self, model):
        """Write the figures, with the loss of the trained model on the same examples for all sides."""
        first, last = self.marks[0], self.marks[-1]
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        figures = {
            "tokens": sum(self.tokens[1 : self.settings.steps]),
            "positions": last[2] - first[2],
            "cpu": last[0] - first[0],
            "wall": last[1] - first[1],
            "peak_bytes": int(status["VmHWM"].split()[0]) * 1024,
            "loss": loss_of(model),
        }
        Path(os.environ["THROUGHPUT_RESULT"]).write_text(json.dumps(figures))


def loss_of(model):
    """The mean loss of a target token on the first examples."""
    examples = [example for batch in batches_of_examples() for example in batch][:SCORED]
    model.eval()
    total, count = 0.0, 0
    for ids, labels in examples:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        wanted = torch.tensor(labels[1:])
        total += float(nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum"))
        count += int((wanted != IGNORED).sum())
    return total / count


class Clock(pl.Callback):
    """Measures a run of `instruct-lab train`, and ends its process after the last measured step."""

    def on_train_start(self, trainer, pl_module):
        self.measured = Measured()
        self.measured.start(pl_module.model)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.measured.tokens.append(int(batch.attention_mask.sum()))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.measured.end_step()
        if self.measured.is_done:
            self.measured.finish(pl_module.model)
            os._exit(0)  # what a run does after its training is not measured


def prepare(overrides, tuning, steps, lr):
    """Write the model, the examples of the first steps, the first values of trained parameters, and the settings."""
    from instruct_lab.data import Audit
    from instruct_lab.experiment.check import check
    from instruct_lab.training.datamodule import InstructionData

    experiment = check(overrides).or_refuse().experiment
    cache = Path(experiment.cache_path).expanduser()
    tokenizer = experiment.model.load_tokenizer(cache)
    data = InstructionData(experiment, tokenizer, cache, Audit())
    write_rows(FOLDER / "conf" / "data", {"train": data.conversations["train"]})
    chosen = []
    for batch, _ in zip(data._loader("train"), range(int(steps)), strict=False):
        rows = zip(batch.input_ids, batch.labels, batch.attention_mask.bool(), strict=True)
        chosen.append([[ids[used].tolist(), labels[used].tolist()] for ids, labels, used in rows])
    if len(chosen) < int(steps):
        sys.exit(f"The data has {len(chosen)} batches for {steps} steps")
    (FOLDER / "batches.json").write_text(json.dumps(chosen))
    settings = Settings(tuning, experiment.batching.batch_size, int(steps), float(lr))
    (FOLDER / "settings.json").write_text(json.dumps(dataclasses.asdict(settings)))
    loaded = experiment.model.load(tokenizer, cache)
    if not (FOLDER / "model").exists():
        loaded.model.save_pretrained(FOLDER / "model")
        tokenizer.save_pretrained(FOLDER / "model")
    torch.manual_seed(0)
    model = experiment.tuning.apply(loaded).model
    torch.save({name: one for name, one in model.named_parameters() if one.requires_grad}, FOLDER / "start.pt")


def ceiling():
    """Measure the arithmetic of the model's matrix products at the shapes of a step, and write it.

    The products of one layer are computed as in a step: forward, for the gradient of the input and, in full tuning, for
    that of the weight, by the faster library of this machine. The rate is that of all products of the model together.
    """
    from transformers import AutoModelForCausalLM

    from instruct_lab.model.linear_layers import has_faster_products, multiply

    settings, batches = Settings.read(), batches_of_examples()
    tokens = sum(len(ids) for batch in batches for ids, _ in batch) // len(batches)
    targets = sum(label != IGNORED for batch in batches for _, labels in batch for label in labels) // len(batches)
    model = AutoModelForCausalLM.from_pretrained(FOLDER / "model")
    linears = {name: one.weight for name, one in model.named_modules() if isinstance(one, nn.Linear)}
    layers = model.config.num_hidden_layers
    product = (lambda left, right: multiply(left, right.t())) if has_faster_products() else torch.mm
    work, seconds, per_position, per_target = 0.0, 0.0, 0, 0
    for name, weight in linears.items():
        is_head = "lm_head" in name
        if not is_head and ".layers.0." not in name:
            continue
        rows, times = (targets, 1) if is_head else (tokens, layers)
        trains = settings.tuning == "full"
        before, after = torch.randn(rows, weight.shape[1]), torch.randn(rows, weight.shape[0])
        factors = [(before, weight.detach().t()), (after, weight)]
        if trains:
            factors.append((after.t(), before))
        products = 2 * weight.numel() * len(factors)
        if settings.tuning == "lora" and not is_head:
            products += 6 * settings.r * sum(weight.shape)  # both factors, forward and for both gradients
        if is_head:
            per_target += products
        else:
            per_position += products * layers
        for left, right in factors:
            with torch.no_grad():
                product(left, right)
                found = []
                for _ in range(5):
                    started = time.process_time()
                    product(left, right)
                    found.append(time.process_time() - started)
            work += times * 2 * rows * weight.numel()
            seconds += times * sorted(found)[2]
    figures = {"rate": work / seconds, "per_position": per_position, "targets": targets * len(batches),
               "per_target": per_target, "tokens": tokens * len(batches)}  # fmt: skip
    Path(os.environ["THROUGHPUT_RESULT"]).write_text(json.dumps(figures))


def load_peer():
    """Load the model, with PEFT's adapters if the setting is LoRA."""
    from transformers import AutoModelForCausalLM

    settings = Settings.read()
    model = AutoModelForCausalLM.from_pretrained(FOLDER / "model", dtype=torch.float32)
    return model, (lora_config(settings) if settings.tuning == "lora" else None), settings


def lora_config(settings):
    """PEFT's configuration of the same adapters."""
    from peft import LoraConfig

    return LoraConfig(r=settings.r, lora_alpha=settings.alpha, target_modules="all-linear", task_type="CAUSAL_LM")


def rows_of_examples():
    """The examples one after the other."""
    return [{"input_ids": ids, "labels": labels} for batch in batches_of_examples() for ids, labels in batch]


def counting(collate, measured):
    """A function that joins examples, and counts their tokens."""

    def join(examples):
        measured.tokens.append(sum(len(example["input_ids"]) for example in examples))
        return collate(examples)

    return join


def transformers_callback(measured):
    """The callback of transformers' Trainer that measures the steps."""
    from transformers import TrainerCallback

    class Steps(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            measured.start(model)

        def on_step_end(self, args, state, control, model=None, **kwargs):
            measured.end_step()
            if measured.is_done:
                measured.finish(model)
                os._exit(0)

    return Steps()


def trainer_arguments(settings):
    """Arguments of transformers' Trainer that make it do the same steps."""
    return {
        "output_dir": str(FOLDER / "out"),
        "per_device_train_batch_size": settings.batch_size,
        "max_steps": settings.steps,
        "learning_rate": settings.lr,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": settings.clip,
        "use_cpu": True,
        "seed": 0,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def train_with_trl(**options):
    """TRL's SFTTrainer in float32, otherwise as `options` say."""
    import datasets
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    measured = Measured()
    model, adapters, settings = load_peer()
    arguments = SFTConfig(**trainer_arguments(settings), bf16=False, max_length=None, **options)
    trainer = SFTTrainer(
        model, arguments, train_dataset=datasets.Dataset.from_list(rows_of_examples()), peft_config=adapters,
        processing_class=AutoTokenizer.from_pretrained(FOLDER / "model"),
        callbacks=[transformers_callback(measured)],
    )  # fmt: skip
    trainer.data_collator = counting(trainer.data_collator, measured)
    trainer.train()


def train_with_transformers():
    """Hugging Face's Trainer as it comes."""
    import datasets
    from peft import get_peft_model
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    measured = Measured()
    model, adapters, settings = load_peer()
    collate = DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(FOLDER / "model"), label_pad_token_id=IGNORED)
    Trainer(
        get_peft_model(model, adapters) if adapters else model,
        TrainingArguments(**trainer_arguments(settings)),
        data_collator=counting(collate, measured),
        train_dataset=datasets.Dataset.from_list(rows_of_examples()),
        callbacks=[transformers_callback(measured)],
    ).train()


class PlainModule(pl.LightningModule):
    """The module that the documentation of Lightning would write for this."""

    def __init__(self, model, settings, measured):
        super().__init__()
        self.model, self._settings, self._measured = model, settings, measured

    def training_step(self, batch, batch_idx):
        return self.model(**batch).loss

    def configure_optimizers(self):
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(trained, lr=self._settings.lr, weight_decay=0.0, fused=True)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self._measured.end_step()
        if self._measured.is_done:
            self._measured.finish(self.model)
            os._exit(0)


def train_with_lightning():
    """A plain module and a loader of padded batches in random order."""
    from peft import get_peft_model
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq

    measured = Measured()
    model, adapters, settings = load_peer()
    model = (get_peft_model(model, adapters) if adapters else model).train()
    measured.start(model)
    collate = DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(FOLDER / "model"), label_pad_token_id=IGNORED)
    loader = torch.utils.data.DataLoader(
        rows_of_examples(), settings.batch_size, shuffle=True, collate_fn=counting(collate, measured)
    )
    pl.seed_everything(0)
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=settings.steps, gradient_clip_val=settings.clip, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(PlainModule(model, settings, measured), loader)


SIDES = {
    "trl": train_with_trl,
    "trl-kept": lambda: train_with_trl(gradient_checkpointing=False),
    "trl-best": lambda: train_with_trl(gradient_checkpointing=False, train_sampling_strategy="sequential"),
    "transformers": train_with_transformers,
    "lightning": train_with_lightning,
    "ceiling": ceiling,
}


if __name__ == "__main__":
    random.seed(0)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    name, *arguments = sys.argv[1:]
    if name == "prepare":
        prepare(arguments[3:], *arguments[:3])
    else:
        SIDES[name]()
