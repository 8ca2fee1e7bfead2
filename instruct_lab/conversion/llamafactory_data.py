"""Convert LLaMA-Factory's data sets, whose files and columns are described in its `dataset_info.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instruct_lab.conversion import data
from instruct_lab.conversion.rules import Conversion, Result
from instruct_lab.errors import InstructLabError
from instruct_lab.files import read_json

INFO = "dataset_info.json"
ROLE_TAGS = {"user_tag": "user", "assistant_tag": "assistant", "system_tag": "system", "observation_tag": "tool"}
USUAL_TAGS = {"user_tag": "human", "assistant_tag": "gpt", "system_tag": "system", "observation_tag": "observation"}
MEDIA = ("images", "videos", "audios")


def read_datasets(state: Conversion, value: Any) -> Result:
    """Set the data of the study from the names of data sets in a config of LLaMA-Factory.

    Args:
        state: the conversion. It contains LLaMA-Factory's setting `eval_dataset`, which names the data sets for
            validation.
        value: the value of LLaMA-Factory's setting `dataset`, which names the data sets for training.
    """
    held_out = _names(state.get("eval_dataset", ""))
    info, found = _info(state)
    folder = Path(found).parent if found else Path(str(state.get("dataset_dir", "data")))
    rows = [_rows(state, info, folder, name, "dataset", False) for name in _names(value)]
    rows += [_rows(state, info, folder, name, "eval_dataset", True) for name in held_out]
    data.build(state, rows, held_out=0.0 if held_out else float(state.get("val_size", 0.0)))
    state.mention(f"data={state.name}")
    return f"from {found}" if found else f"there is no {INFO}; each name is taken for a file of Alpaca rows"


def _names(value: Any) -> list[str]:
    """Return the names of data sets in a list or in a comma-separated text."""
    names = value if isinstance(value, list) else str(value).split(",")
    return [name for one in names if (name := str(one).strip())]


def _info(state: Conversion) -> tuple[Mapping[str, Any], str]:
    """Return the content of `dataset_info.json` and the path of the file; both are empty if there is no such file."""
    folder = str(state.get("dataset_dir", "data"))
    roots = [Path(), state.folder, *list(state.folder.absolute().parents)[:4]]
    for path in [state.folder / INFO, *(root / folder / INFO for root in roots)]:
        if path.is_file():
            try:
                content = read_json(path)
            except (OSError, json.JSONDecodeError, InstructLabError) as error:
                do = "correct the file, or move it away"
                raise InstructLabError("The list of data sets is not valid JSON", where=str(path), do=do) from error
            return (content if isinstance(content, dict) else {}), str(path)
    return {}, ""


def _rows(state: Conversion, info: Mapping[str, Any], folder: Path, name: str, key: str, held_out: bool) -> data.Rows:
    entry = info.get(name, {})
    if hub := entry.get("hf_hub_url") or entry.get("ms_hub_url"):
        source = data.hub_source(hub, None, entry.get("subset") or entry.get("folder"), entry.get("split"))
    else:
        source = data.file_source(str(folder / entry.get("file_name", f"{name}.json")))
    limits = [limit for limit in (entry.get("num_samples"), state.get("max_samples")) if limit]
    if limits:
        source["max_rows"] = int(min(limits))
    if "script_url" in entry:
        data.add_difference(state, f"{key}.{name}.script_url", entry["script_url"], "scripts of data sets are not run")
    return data.Rows(source, _format(state, entry, f"{key}.{name}"), f"{key}.{name}", held_out)


def _format(state: Conversion, entry: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    columns, tags = entry.get("columns", {}), entry.get("tags", {})
    ignored = [str(columns[name]) for name in MEDIA if name in columns]
    fields: dict[str, Any] = {"ignore_columns": ignored} if ignored else {}
    if ignored:
        data.add_difference(state, f"{where}.columns", ignored, "only the texts are read, and not these columns")
    is_turns = entry.get("formatting", "alpaca") != "alpaca"
    turns = columns.get("messages", "conversations")
    if state.get("stage", "sft") == "pt":
        return "PlainText", {"text": columns.get("prompt", "text"), **fields}
    if entry.get("ranking"):
        prompt = turns if is_turns else columns.get("prompt", "instruction")
        chosen = {"chosen": columns.get("chosen", "chosen"), "rejected": columns.get("rejected", "rejected")}
        if "query" in columns:
            note = "the prompt is one column here: join both in the file"
            data.add_difference(state, f"{where}.columns.query", columns["query"], note)
            fields["ignore_columns"] = [*ignored, columns["query"]]
        return "Preference", {"prompt": prompt, **chosen, **fields}
    if "kto_tag" in columns:
        prompt = turns if is_turns else columns.get("prompt", "instruction")
        completion = None if is_turns else columns.get("response", "output")
        return "UnpairedPreference", {"prompt": prompt, "completion": completion, "label": columns["kto_tag"], **fields}
    if not is_turns:
        named = {"prompt": "instruction", "query": "input", "response": "output"}
        fields |= {ours: columns[name] for name, ours in named.items() if columns.get(name, ours) != ours}
        return "Alpaca", fields | {name: columns[name] for name in ("system", "history") if name in columns}
    fields |= {"conversations": turns} if turns != "conversations" else {}
    for tag, field, usual in (("role_tag", "role", "from"), ("content_tag", "content", "value")):
        usual = field if entry.get("formatting") == "openai" else usual
        if (name := tags.get(tag, usual)) != {"role": "from", "content": "value"}[field]:
            fields[field] = name
    roles = {tags[tag]: role for tag, role in ROLE_TAGS.items() if tags.get(tag) not in (None, role, USUAL_TAGS[tag])}
    fields |= {"roles": roles} if roles else {}
    return "ShareGPT", fields | {name: columns[name] for name in ("system", "tools") if name in columns}
