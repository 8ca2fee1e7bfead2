"""Rendering of self-contained HTML pages from Jinja2 templates: each page is one file and makes no requests.

Templates, styles and scripts are files inside the package `instruct_lab` and are named by their paths in it. Values in
a template are escaped, and their invisible characters are replaced with visible signs; only markup that templates
produce (`Markup`) is inserted unchanged. The content security policy of a page lists the hashes of its own scripts and
styles, so a browser runs and loads nothing else.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from instruct_lab.errors import wrap_errors
from instruct_lab.files import write_atomically
from instruct_lab.pages.format import format_number
from instruct_lab.terminal import INVISIBLE, character_sign, visible

if TYPE_CHECKING:
    from jinja2 import Environment

PACKAGE = Path(__file__).parent.parent
PARTS = "pages/templates/parts.html"
STYLE, SCRIPT = "pages/static/page.css", "pages/static/search.js"
"""The style sheet and the script of every page."""
PERCENT = "\u00a0%"
"""Ending of a percentage; a table aligns texts with this ending like numbers."""


@functools.cache
def environment() -> Environment:
    """Create the Jinja2 environment that loads templates from the package and escapes all values."""
    import jinja2

    created = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PACKAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_replace_invisible,
    )
    created.filters |= {"text": mark_invisible, "cell": format_cell, "script_json": script_json}
    return created


def _replace_invisible(value: object) -> object:
    return value if isinstance(value, Markup) else visible(str(value))


def mark_invisible(value: object) -> Markup:
    """Escape a text, and replace invisible characters with highlighted signs (template filter `text`)."""
    if isinstance(value, Markup):
        return value
    text, parts, end = str(value), [], 0
    for match in INVISIBLE.finditer(text):
        sign = Markup('<span class="control">{}</span>').format(character_sign(match[0]))
        parts += [escape(text[end : match.start()]), sign]
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])


def format_cell(value: object) -> Markup:
    """Format a value as the content of a table cell (template filter `cell`)."""
    return value if isinstance(value, Markup) else mark_invisible(format_number(value))


def script_json(value: object) -> Markup:
    """Write JSON for a script element, without characters that could end the element (template filter `script_json`).

    Args:
        value: the value, in plain containers with finite numbers.
    """
    text = visible(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
    for sign in "&<>":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def render_part(name: str, *arguments: object) -> Markup:
    """Render a part of a page by calling the macro `name` of `templates/parts.html`."""
    macro: Any = getattr(environment().get_template(PARTS).module, name)
    return Markup(macro(*arguments))


def render_table(headers: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> Markup:
    """Render a table; `format_number` formats numbers, and columns of numbers and percentages are right-aligned.

    Args:
        headers: the heading of each column.
        rows: the cells of each row: numbers, texts or markup.
        caption: text above the table.
    """
    cells = [list(row) for row in rows]
    kinds = ["number" if _is_numeric([row[column] for row in cells]) else "" for column in range(len(headers))]
    return render_part("table", headers, cells, kinds, caption)


def _is_numeric(cells: Sequence[object]) -> bool:
    known = [cell for cell in cells if cell is not None]
    return bool(known) and all(isinstance(cell, int | float) or str(cell).endswith(PERCENT) for cell in known)


def render_page(
    template: str,
    title: str,
    *,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    connects: bool = False,
    **values: object,
) -> str:
    """Render a whole HTML document, in which signs replace characters that could not be encoded as UTF-8.

    Args:
        template: path of the template in the package; the template extends `pages/templates/page.html`.
        title: the heading and window title.
        styles: the texts of further style sheets, besides the one that every page has.
        scripts: the texts of further scripts, besides the one that every page has.
        connects: whether scripts may send requests to the server that the page comes from.
        values: values that the template uses.
    """
    sheets = [(PACKAGE / STYLE).read_text(encoding="utf-8"), *styles]
    programs = [(PACKAGE / SCRIPT).read_text(encoding="utf-8"), *scripts]
    connections = "; connect-src 'self'" if connects else ""
    policy = (
        f"default-src 'none'; style-src {_hashes(sheets)}; script-src {_hashes(programs)}; img-src data:; "
        f"base-uri 'none'; form-action 'none'{connections}"
    )
    return (
        environment()
        .get_template(template)
        .render(title=title, policy=Markup(policy), styles=map(Markup, sheets), scripts=map(Markup, programs), **values)
    )


def write_page(path: Path, text: str) -> None:
    """Write a page to a file, whose folder is created if it is missing.

    Raises:
        InstructLabError: the file cannot be written.
    """
    with wrap_errors(OSError, what="The page cannot be written", where=str(path), do="name another file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, [text])


def _hashes(texts: Iterable[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
