"""Convert the list of data sets in axolotl's configs; the `type` of each determines its columns and its prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instruct_lab.conversion import data
from instruct_lab.conversion.rules import Conversion, Different, Result, Same

Format = tuple[str, dict[str, Any]]
ALPACA: Format = ("Alpaca", {})
INSTRUCTIONS: Mapping[str, Format] = {
    "alpaca": ALPACA,
    "gpteacher": ("Alpaca", {"output": "response"}),
    "oasst": ("Alpaca", {"instruction": "INSTRUCTION", "input": None, "output": "RESPONSE"}),
    "alpaca_w_system": ALPACA,
    "reflection": ALPACA,
    "jeopardy": ("Columns", {"prompt": "{question}", "completion": "{answer}"}),
    "context_qa": ("Columns", {"prompt": "{context}\n\n{question}", "completion": "{answer}"}),
    "summarizetldr": ("Columns", {"prompt": "{article}", "completion": "{summary}"}),
    "metharme": ("PromptCompletion", {"prompt": "prompt", "completion": "generation"}),
}
"""Formats for axolotl's types of single-turn instructions, keyed by the beginning of the type's name.

The beginning ends before a dot, a colon or an underscore: it is `alpaca` for `alpaca_chat.load_qa`.
"""
PAIRS: Mapping[str, Mapping[str, str]] = {
    "intel": {"prompt": "question", "chosen": "chosen", "rejected": "rejected"},
    "argilla": {"prompt": "instruction", "chosen": "chosen_response", "rejected": "rejected_response"},
    "icr": {"prompt": "input", "chosen": "chosen", "rejected": "rejected"},
    "ultra": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    "default": {"prompt": "messages", "chosen": "chosen", "rejected": "rejected"},
    "bradley_terry": {"prompt": "input", "chosen": "chosen", "rejected": "rejected"},
}
READ = ("path", "type", "split", "name", "revision", "data_files", "ds_type", "field", "text_column")
FIELDS = [
    "field_messages",
    "field_instruction",
    "field_input",
    "field_output",
    "field_system",
    "field_prompt",
    "field_chosen",
    "field_rejected",
    "field_completion",
    "field_label",
    "field_tools",
    "field_human",
    "field_model",
    "message_field_role",
    "message_field_content",
    "message_property_mappings",
    "roles",
    "roles_to_train",
    "train_on_eos",
    "train_on_eot",
    "train_on_split",
    "conversation",
    "message_field_training",
    "chat_template",
]


def read_datasets(state: Conversion, value: Any) -> Result:
    """Set the data of the study from axolotl's data sets, and report how each setting of a data set is converted.

    Held-out rows are read from the list `test_datasets`; without it, `val_set_size` says how much is held out.

    Args:
        state: the conversion, which contains the study and the report.
        value: the value of axolotl's setting `datasets` or `pretraining_dataset`.
    """
    entries = value if isinstance(value, list) else [value]
    tests = state.get("test_datasets", [])
    rows = [_read(state, f"datasets[{number}]", entry, False) for number, entry in enumerate(entries)]
    rows += [_read(state, f"test_datasets[{number}]", entry, True) for number, entry in enumerate(tests)]
    size = 0.0 if tests else float(state.get("val_set_size", 0.0))
    found = [one for one in rows if one is not None]
    data.build(state, found, held_out=size)
    if not found:
        return Different("no entry can be read here: name the data with data=path:FILE or data=hub:OWNER/NAME")
    state.mention(f"data={state.name}")
    return None


def _read(state: Conversion, where: str, entry: Any, held_out: bool) -> data.Rows | None:
    entry = {"path": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or not entry.get("path"):
        state.add_row(where, entry, "different", "an entry needs a path: it is left out")
        return None
    outer, path = state.take_overrides(), str(entry["path"])
    files = entry.get("data_files")
    kind = entry.get("type")
    if data.is_file(path) or (path in ("json", "csv", "parquet", "text") and files):
        source = data.file_source(files or path)
    elif ":" in path:
        state.add_row(f"{where}.path", path, "different", "rows on other servers: copy them here")
        return None
    else:
        source = data.hub_source(path, entry.get("revision"), entry.get("name"), entry.get("split"))
    for key, setting in entry.items():
        if key != "type":
            _report(state, where, key, setting)
    rows_format = _format(state, where, entry, kind)
    for override in outer:
        state.mention(override)
    return data.Rows(source, rows_format, where, held_out)


def _report(state: Conversion, where: str, key: str, value: Any) -> None:
    """Report how one setting of a data set in axolotl's list is converted.

    This is not called for the setting `type`, which `_format` reports.

    Args:
        state: the conversion, which contains the study and the report.
        where: name of the data set in the report, such as `datasets[0]`.
        key: name of the setting, such as `data_files`.
        value: value of the setting.
    """
    name = f"{where}.{key}"
    if key in ("roles_to_train", "train_on_eos", "train_on_eot", "message_field_training", "chat_template"):
        _report_training(state, name, key, value)
    elif key in READ or key in FIELDS:
        if key == "data_files":
            state.mention("data")
        state.add_row(name, value, "converted" if key != "ds_type" else "same", "a part of the data option")
    else:
        state.add_row(name, value, "different", "rows are read whole, with the columns of the format")


def _report_training(state: Conversion, name: str, key: str, value: Any) -> None:
    if key == "roles_to_train" and value not in (["assistant"], ["gpt"], ["assistant", "gpt"], None):
        state.set("template.train_on", "all")
        state.add_row(name, value, "converted", "every token is trained on; roles cannot be chosen one by one")
    elif key in ("train_on_eos", "train_on_eot") and value not in ("turn", None):
        state.add_row(name, value, "different", "the token that ends an answer is trained on in every answer")
    elif key == "chat_template" and value not in ("tokenizer_default", None):
        option = {"chatml": "chatml", "alpaca": "alpaca"}.get(str(value), "chat")
        state.choose("template", option)
        state.add_row(name, value, "converted", "one template for all data sets")
    else:
        state.add_row(name, value, "same", "as here")


def _format(state: Conversion, where: str, entry: Mapping[str, Any], kind: Any) -> Format:
    """Return the format of the rows of a data set in axolotl's list, and report how the data set's `type` is converted.

    This also chooses the template for that `type`, unless a template is already chosen.

    Args:
        state: the conversion, which contains the study and the report.
        where: name of the data set in the report, such as `datasets[0]`.
        entry: the data set's settings in the list.
        kind: the setting `type`: a name, a mapping with the names of columns, or `None`.
    """
    if isinstance(kind, Mapping):
        found: Format = _own_columns(kind)
        template: str | None = None
        note: str | Same | Different | None = "a pattern of prompts becomes a message, which template wraps"
    else:
        found, template, note = _named(state, entry, str(kind or "chat_template"))
    if template is not None and "template" not in state.choices:
        state.choose("template", template)
    is_different = isinstance(note, Different)
    text = note.note if isinstance(note, Same | Different) else note or ""
    state.mention(f"data.format: {found[0]}")
    state.add_row(f"{where}.type", kind, "different" if is_different else "converted", text)
    return found


def _own_columns(kind: Mapping[str, Any]) -> Format:
    """Return the format of the rows for a `type` of axolotl that is not a name but a mapping with names of columns."""
    if "field_chosen" in kind or "field_rejected" in kind:
        names = {"prompt": "field_prompt", "chosen": "field_chosen", "rejected": "field_rejected"}
        return "Preference", {ours: kind.get(theirs, ours) for ours, theirs in names.items()}
    if "field_label" in kind or "field_completion" in kind:
        names = {"prompt": "field_prompt", "completion": "field_completion", "label": "field_label"}
        return "UnpairedPreference", {ours: kind.get(theirs, ours) for ours, theirs in names.items()}
    columns = {"instruction": kind.get("field_instruction") or "instruction", "input": kind.get("field_input")}
    fields = {**columns, "output": kind.get("field_output") or "output"}
    return "Alpaca", fields | ({"system": kind["field_system"]} if kind.get("field_system") else {})


def _named(state: Conversion, entry: Mapping[str, Any], kind: str) -> tuple[Format, str | None, Any]:
    """Return how the rows are read if the `type` of an axolotl data set is a name.

    Args:
        state: the conversion, which contains the study.
        entry: the data set's settings in axolotl's list.
        kind: the name, such as `alpaca` or `chat_template`.

    Returns:
        The format of the rows, the option of the group `template` (`None`: none is chosen), and a note for the report.
    """
    head, _, rest = kind.replace(":", ".").partition(".")
    objective = state.choices.get("objective", "supervised")
    if objective == "kto":
        names = {"prompt": "prompt", "completion": "completion", "label": "label"}
        return ("UnpairedPreference", names), None, "columns prompt, completion and label"
    if objective != "supervised" and objective != "causal":
        key = next((name for name in (rest.partition(".")[0], head) if name in PAIRS), "default")
        names = dict(PAIRS[key])
        for ours, theirs in (("prompt", "field_messages"), ("chosen", "field_chosen"), ("rejected", "field_rejected")):
            names[ours] = entry.get(theirs) or names[ours]
        return ("Preference", names), "chatml" if head == "chatml" else None, None
    if head in ("completion", "pretrain"):
        return ("PlainText", {"text": entry.get("field") or entry.get("text_column") or "text"}), "plain", None
    if head in ("chat_template", "sharegpt", "chatml"):
        return _turns(entry, is_sharegpt=head == "sharegpt"), "chatml" if head == "chatml" else "chat", None
    for name, found in INSTRUCTIONS.items():
        if head == name or head.startswith(f"{name}_"):
            is_chat = "chat" in rest or "chat" in head
            note = "the wording of its prompts is that of template=alpaca" if not is_chat else "as turns of a chat"
            return found, "chat" if is_chat else "alpaca", note
    return ALPACA, None, Different(f"there is no type {kind}; its rows are read as Alpaca's: set data.format")


def _turns(entry: Mapping[str, Any], is_sharegpt: bool) -> Format:
    mapping = entry.get("message_property_mappings") or {}
    role = mapping.get("role") or entry.get("message_field_role") or ("from" if is_sharegpt else "role")
    content = mapping.get("content") or entry.get("message_field_content") or ("value" if is_sharegpt else "content")
    column = entry.get("field_messages") or ("conversations" if is_sharegpt else "messages")
    roles = {
        alias: role_name
        for role_name, aliases in (entry.get("roles") or {}).items()
        for alias in ([aliases] if isinstance(aliases, str) else aliases or [])
        if role_name in ("user", "assistant", "system", "tool") and alias not in ("human", "gpt", role_name)
    }
    fields: dict[str, Any] = {"roles": roles} if roles else {}
    if entry.get("field_tools"):
        fields["tools"] = entry["field_tools"]
    if (role, content) == ("role", "content"):
        return "Messages", ({"messages": column} if column != "messages" else {}) | fields
    return "ShareGPT", {"conversations": column, "role": role, "content": content} | fields
