"""Load what most commands need, in a process from which those that run commands are forked."""

import gc
import importlib

import support.slow_machine  # noqa: F401
from instruct_lab.experiment.check import check
from instruct_lab.tuning.peft_library import load_peft

for name in (
    *("instruct_lab.training.run", "instruct_lab.sweep.plan", "instruct_lab.commands.runs", "instruct_lab.export"),
    *("transformers.models.llama.modeling_llama", "sacrebleu", "rouge_score.rouge_scorer", "pandas"),
):
    importlib.import_module(name)
load_peft()
check([])  # loads Hydra's plugins and the components of the default config
gc.freeze()  # a collection in a forked process would copy the memory of these objects
