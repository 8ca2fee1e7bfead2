"""Data of a benchmark as files, so that another version or another library trains on the same rows."""

import json
import shutil

OPTION = "benchmark_rows"
"""The name of the data option that `write_rows` writes."""


def write_rows(folder, splits):
    """Write conversations of one question and answer as files, and a data option that reads them, into a folder.

    Its baselines are those of the quick start.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    package = "instruct_lab.data."
    option = {"_target_": f"{package}DataSet", "format": {"_target_": f"{package}Columns", "prompt": "{prompt}"}}
    option["format"]["completion"] = "{completion}"
    option["baselines"] = {
        name: {"_target_": package + kind, "column": "prompt"}
        for name, kind in {"copy": "Copy", "nearest": "NearestExample"}.items()
    }
    for split, conversations in splits.items():
        file = folder / f"{split}.jsonl"
        with file.open("w") as lines:
            for conversation in conversations:
                prompt, completion = (message.content for message in conversation.messages)
                lines.write(json.dumps({"prompt": prompt, "completion": completion}) + "\n")
        option[split] = {"rows": {"_target_": f"{package}Files", "path": str(file)}}
    (folder / f"{OPTION}.yaml").write_text("# the benchmark's rows\n" + json.dumps(option))


def row_of(conversation):
    """A conversation as TRL reads it."""
    *prompt, answer = [{"role": one.role, "content": one.content} for one in conversation.messages]
    return {"prompt": prompt, "completion": [answer]}
