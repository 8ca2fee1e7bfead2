"""Greedy answers of an exported GGUF file against those of the run's model, to held-out prompts.

Two readers of the file answer: transformers, as `instruct-lab export --measure` does, and llama.cpp, which renders the
messages with the chat template in the file, as its users do, and shares no code with this project.

Command: python tests/benchmarks/gguf_answers.py RUN FILE.gguf [--runs DIR] [--prompts N] [--split SPLIT]
RUN and FILE.gguf: a run of the quick start and `instruct-lab export RUN DIR --format gguf`. Needs llama.cpp with
Python bindings: pip install xllamacpp. Prints the equal answers of each reader, and the paired loss of quality.
"""

import argparse
from pathlib import Path

import torch

from instruct_lab.data import Audit
from instruct_lab.evaluation.measure import measure
from instruct_lab.experiment.recorded import build_recorded
from instruct_lab.export.export import Export
from instruct_lab.export.quality import compare, load_export
from instruct_lab.metrics import AnswerMetric
from instruct_lab.metrics.intervals import paired_difference
from instruct_lab.records import find_run
from instruct_lab.training.datamodule import InstructionData
from instruct_lab.training.workspace import Workspace

CONTEXT = 2048


def answers_of_llama_cpp(file, conversations, limit):
    """Return llama.cpp's greedy answer to each conversation, by the chat template in the file."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.n_ctx, parameters.n_parallel, parameters.n_gpu_layers = CONTEXT, 1, 0
    parameters.cpuparams.n_threads = torch.get_num_threads()
    server = xllamacpp.Server(parameters)
    answers = []
    for conversation in conversations:
        asked = [
            one for one in conversation.messages if one is not conversation.messages[-1] or one.role != "assistant"
        ]
        messages = [{"role": one.role, "content": one.content} for one in asked]
        settings = {"messages": messages, "max_tokens": limit, "temperature": 0.0, "cache_prompt": False}
        answers.append(server.handle_chat_completions(settings)["choices"][0]["message"]["content"])
    return answers


def main():
    """Print the equal answers of both readers, the answers that differ, and the paired losses."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--split", default="validation")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = find_run(arguments.runs, arguments.run)
    experiment, config = build_recorded(record, uses_trackers=False)
    weight_type = arguments.file.stem.removeprefix("model-")
    folder = arguments.file.parent
    job = Export(experiment=experiment, config=config, record=record, path=folder, form="gguf", weight_type=weight_type)
    workspace = Workspace(experiment)
    data = InstructionData(experiment, workspace.tokenizer, workspace.cache_path, Audit())
    examples = data.evaluated_examples(arguments.split, arguments.prompts)
    setup = experiment.evaluation_setup
    metrics = setup.for_references(examples.references).metrics
    tuned = job.load().loaded
    before = measure(setup, tuned, examples)
    after = measure(setup, load_export(job, tuned), examples)
    print("transformers' reader of the file")
    print(compare(metrics, arguments.split, before, after).to_markdown())
    expected = [one.text for one in before.predictions]
    found = answers_of_llama_cpp(arguments.file, examples.prompts, experiment.generation.limit)
    equal = sum(a.strip() == b.strip() for a, b in zip(expected, found, strict=True))
    print(f"\nllama.cpp: {equal} of {len(found)} answers are equal")
    for ours, theirs in zip(expected, found, strict=True):
        if ours.strip() != theirs.strip():
            print(f"  model      {ours!r}\n  llama.cpp  {theirs!r}")
    for name, rows in before.rows.items():
        if isinstance(metrics[name], AnswerMetric):
            pairs = zip(found, examples.conversations, strict=True)
            own = [metrics[name].statistics(text.strip(), tuple(one.answers)) for text, one in pairs]
            value = paired_difference(metrics[name], rows, own)
            print(f"  {name}: llama.cpp - model {value.value:+.4f} [{value.low:+.4f}, {value.high:+.4f}]")


if __name__ == "__main__":
    main()
