"""Write the reference pages of the documentation from the option files, the classes and the command line.

`mkdocs.yml` names this file as a hook, so `mkdocs build` calls `on_files`. The pages exist only in the built site.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from instruct_lab import cli
from instruct_lab.config.options import GROUPS, STUDIES, options
from instruct_lab.config.show import render_value
from instruct_lab.experiment.matrix import FAMILIES, Combination, matrix
from instruct_lab.experiment.reference import combinable, describe

SOURCE = re.compile(r"(?:[A-Z][\w’'-]+(?: [A-Z]\.)?(?: et al\.| and [A-Z][\w’'-]+)?,? )\(?(?:19|20)\d\d")
"""A paper as docstrings cite it: `Hu et al., 2021` or `Loshchilov and Hutter (2019`."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the page of each group in the navigation."""
    (reference,) = (part["Reference"] for part in config.nav or [] if "Reference" in part)
    reference += [{group: _page_of(group)} for group in GROUPS]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    for path, content in pages():
        files.append(File.generated(config, path, content=content))
    return files


def pages() -> Iterator[tuple[str, str]]:
    """Yield the path and the Markdown of each generated page."""
    others = combinable()
    described = {group: [describe(option, others) for option in options(group)] for group in GROUPS}
    for group, descriptions in described.items():
        yield _page_of(group), _group_page(group, descriptions)
    yield "reference/index.md", _index(described)
    yield "reference/commands.md", _commands()
    yield "reference/matrix.md", _matrix(list(matrix()))
    yield "reference/papers.md", _papers(described)


def _page_of(group: str) -> str:
    return f"reference/{group.replace('/', '-')}.md"


def _index(described: dict[str, list[dict[str, Any]]]) -> str:
    lines = ["# Reference", "", "One page for each config group, written from its option files and classes.", ""]
    lines += ["| group | options | chosen with |", "|---|---|---|"]
    for group, descriptions in described.items():
        chosen = f"`{group}={descriptions[0]['option']}`" if descriptions else ""
        lines.append(f"| [{group}]({_page_of(group).removeprefix('reference/')}) | {len(descriptions)} | {chosen} |")
    lines += ["", "[Commands](commands.md) · [What works with what](matrix.md) · [Papers and options](papers.md)"]
    return "\n".join(lines)


def _group_page(group: str, descriptions: list[dict[str, Any]]) -> str:
    lines = [f"# {group}", "", "| option | what it is |", "|---|---|"]
    for one in descriptions:
        anchor = _anchor(one["option"])
        summary = one["comment"][0] if one["comment"] else ""
        lines.append(f"| [`{one['option']}`](#{anchor}) | {_cell(summary)} |")
    shown: set[str] = set()
    for one in descriptions:
        lines += ["", *_option_section(group, one, shown)]
    return "\n".join(lines)


def _option_section(group: str, one: dict[str, Any], shown: set[str]) -> list[str]:
    if one["problems"]:
        raise ValueError(f"{group}={one['option']}: {one['problems']}")
    lines = [f"## {one['option']} {{ #{_anchor(one['option'])} }}", "", f"`{group}={one['option']}`: {_text(one)}"]
    for component in one["components"]:
        lines += ["", f"**`{component['key']}`**: `{component['class']}`"]
        if component["class"] not in shown:
            shown.add(component["class"])
            lines += ["", *_quoted(component["docstring"])]
        if component["fields"]:
            lines += ["", "| field | value | type | meaning |", "|---|---|---|---|"]
            lines += [_field_row(field) for field in component["fields"]]
    if one["sets"]:
        lines += ["", "Sets:", ""]
        lines += [f"- `{key}: {render_value(value)}`" for key, value in one["sets"].items()]
    if one["works_with"]:
        lines += ["", "Works with:", ""]
        lines += [f"- {name}: {', '.join(found) or 'none'}" for name, found in one["works_with"].items()]
    return lines


def _text(one: dict[str, Any]) -> str:
    return " ".join(_escaped(line) for line in one["comment"])


def _field_row(field: dict[str, Any]) -> str:
    if "value" in field:
        value = f"`{render_value(field['value'])}`"
        if not field["required"] and field["value"] != field["default"]:
            value += f" (default `{render_value(field['default'])}`)"
    else:
        value = "required" if field["required"] else f"`{render_value(field['default'])}`"
    kind = ", ".join(filter(None, (field["type"], field["bounds"])))
    return f"| `{field['name']}` | {_cell(value, is_code=True)} | {_cell(kind)} | {_cell(field['comment'])} |"


def _commands() -> str:
    lines = ["# Commands", ""]
    (verbs,) = (action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction))
    for name, parser in verbs.choices.items():
        lines += [f"## {name}", "", "```text", parser.format_help().rstrip(), "```", ""]
    lines += ["## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += ["| 0 | done |", "| 1 | failed while running; a failed trial of a sweep too |"]
    lines += ["| 2 | refused before anything ran |", "| 129, 130, 143 | interrupted by SIGHUP, SIGINT or SIGTERM |"]
    return "\n".join(lines)


def _matrix(combinations: list[Combination]) -> str:
    lines = ["# What works with what", ""]
    trains = sum(one.trains for one in combinations)
    lines.append(
        f"Of {len(combinations)} combinations of model family, objective, tuning and batching {trains} train; the "
        "others are refused with the reason before anything is loaded. `instruct-lab check --matrix --json` prints "
        "each reason."
    )
    objectives = sorted({one.objective for one in combinations})
    methods = sorted({one.tuning for one in combinations})
    can = {(one.family, one.objective, one.tuning) for one in combinations if one.trains}
    for family in FAMILIES:
        usable = [name for name in objectives if any((family, name, method) in can for method in methods)]
        lines += ["", f"## {family}", "", f"| tuning | {' | '.join(usable)} |", f"|---|{'---|' * len(usable)}"]
        for method in methods:
            marks = ["✓" if (family, name, method) in can else "" for name in usable]
            lines.append(f"| `{method}` | {' | '.join(marks)} |")
    return "\n".join(lines)


def _papers(described: dict[str, list[dict[str, Any]]]) -> str:
    found: dict[str, set[str]] = {}
    for group, descriptions in described.items():
        if group == STUDIES:
            continue
        for one in descriptions:
            texts = [*one["comment"], *(component["docstring"] for component in one["components"])]
            for paper in SOURCE.findall(" ".join(texts).replace("\n", " ")):
                page = _page_of(group).removeprefix("reference/")
                link = f"[`{group}={one['option']}`]({page}#{_anchor(one['option'])})"
                found.setdefault(paper.replace(" (", ", "), set()).add(link)
    lines = [
        "# Papers and options",
        "",
        "Which option is the method of which paper.",
        "",
        "| paper | options |",
        "|---|---|",
    ]
    lines += [f"| {paper} | {', '.join(sorted(links))} |" for paper, links in sorted(found.items())]
    return "\n".join(lines)


def _anchor(option: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", option.lower())


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_<>\[\]#])", r"\\\1", text)


def _cell(text: str, is_code: bool = False) -> str:
    return (text if is_code else _escaped(text)).replace("|", "\\|").replace("\n", " ")


def _quoted(docstring: str) -> list[str]:
    """Return a docstring as a block of plain text that keeps its lines."""
    return ["```text", *docstring.splitlines(), "```"] if docstring else []
