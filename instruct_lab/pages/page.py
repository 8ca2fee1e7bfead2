"""A self-contained HTML page: one file, no request, nothing from the data taken for markup.

Everything that is put into an element is escaped unless it is `Html`, which only this module's functions make. The
page's own script and style are named by their hashes in its content policy, so a browser runs nothing else and loads
nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from instruct_lab.errors import InstructLabError
from instruct_lab.files import write_atomically
from instruct_lab.pages.format import INVISIBLE, character_sign, format_number, visible

STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --back: #fff; --soft: #f3f4f6; --line: #d8dbe0; --dim: #646b75;
  --accent: #3b6fd4; --added: #c9efd0; --removed: #fbd3d0; --trained: #bfe8c7; --special: #e3ddf5; --cut: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e6ea; --back: #15171a; --soft: #1f2226; --line: #363b42;
  --dim: #9aa2ad; --accent: #7ba4f4; --added: #1d5230; --removed: #6a2622; --trained: #1c5230; --special: #413763;
  --cut: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--text);
  background: var(--back); }
h1 { font-size: 1.4rem; margin: .3rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 1.8rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; overflow-wrap: anywhere; }
.dim, figcaption, caption { color: var(--dim); font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line);
  max-width: 30rem; overflow-wrap: break-word; }
th { color: var(--dim); font-weight: 600; white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; }
svg { display: block; max-width: 100%; height: auto; }
.bar { fill: var(--accent); } .axis { stroke: var(--line); }
.tick { fill: var(--dim); font: 11px system-ui, sans-serif; }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .4rem 0; padding: .3rem .7rem; }
summary { cursor: pointer; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: .5rem;
  margin: .5rem 0; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft); border-radius: .3rem;
  padding: .5rem; margin: 0; font: .85rem/1.6 ui-monospace, monospace; }
ins { background: var(--added); text-decoration: none; }
del { background: var(--removed); text-decoration: none; }
.control { color: var(--cut); }
.token { border-left: 1px solid var(--line); }
.trained { background: var(--trained); font-weight: 600; }
.special { background: var(--special); border-radius: .3rem; padding: 0 .15rem; font-style: italic; }
.special.trained { background: var(--trained); outline: 1px solid var(--dim); }
.cut { color: var(--cut); font-weight: 600; }
.ids .token::after { content: attr(title); color: var(--dim); font: .65em ui-monospace, monospace;
  vertical-align: sub; }
input[type=search] { width: min(24rem, 100%); padding: .4rem .6rem; font: inherit; color: inherit;
  background: var(--soft); border: 1px solid var(--line); border-radius: .4rem; }
[hidden] { display: none; }
"""

SCRIPT = """
const box = document.getElementById("search");
const count = document.getElementById("search-count");
if (box) box.addEventListener("input", () => {
  const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let found = 0;
  for (const part of document.querySelectorAll(".sought")) {
    const text = part.textContent.toLowerCase();
    part.hidden = !words.every((word) => text.includes(word));
    if (part.tagName === "DETAILS") part.open = words.length > 0 && !part.hidden;
    if (!part.hidden) found += 1;
  }
  count.textContent = words.length ? found + " found" : "";
});
"""


class Html(str):
    """Markup that is whole and safe as it stands; any other text is escaped where it enters a page."""

    __slots__ = ()


def escaped(text: str) -> Html:
    """The text as content of an element; what cannot be seen stands out."""
    if INVISIBLE.search(text) is None:
        return Html(html.escape(text))
    parts, end = [], 0
    for match in INVISIBLE.finditer(text):
        parts += [html.escape(text[end : match.start()]), f'<span class="control">{character_sign(match[0])}</span>']
        end = match.end()
    return Html("".join(parts) + html.escape(text[end:]))


def element(tag: str, *content: object, **attributes: object) -> Html:
    """An element; content that is not `Html` is escaped.

    Args:
        tag: its name.
        content: one after another.
        attributes: left out where None; `class_` is written `class`, and other underscores as hyphens.
    """
    named = ((name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items() if value is not None)
    shown = "".join(f' {name}="{html.escape(visible(str(value)))}"' for name, value in named)
    inner = "".join(part if isinstance(part, Html) else escaped(str(part)) for part in content)
    return Html(f"<{tag}{shown}>{inner}</{tag}>")


def joined(parts: Iterable[Html]) -> Html:
    """Elements one after another."""
    return Html("".join(parts))


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], caption: str | None = None) -> Html:
    """A table that scrolls sideways where the screen is narrow; columns of numbers stand to the right.

    Args:
        headers: one a column.
        rows: cells; numbers are written by `format_number`.
        caption: stands above.
    """
    cells = [list(row) for row in rows]
    numeric = {
        column
        for column in range(len(headers))
        if any(isinstance(row[column], int | float) for row in cells)
        and all(row[column] is None or isinstance(row[column], int | float) for row in cells)
    }
    kind = ["number" if column in numeric else None for column in range(len(headers))]
    head = element("tr", *(element("th", name, class_=kind[column]) for column, name in enumerate(headers)))
    body = (
        element(
            "tr",
            *(element("td", c if isinstance(c, Html) else format_number(c), class_=kind[i]) for i, c in enumerate(row)),
        )
        for row in cells
    )
    above = [element("caption", caption)] if caption else []
    whole = element("table", *above, element("thead", head), element("tbody", *body))
    return element("div", whole, class_="wide")


def section(title: str, *content: object) -> Html:
    """A part of the page under a heading."""
    return element("section", element("h2", title), *content)


def folded(summary: object, *content: object, class_: str | None = None, is_open: bool = False) -> Html:
    """A line that opens to more."""
    return element("details", element("summary", summary), *content, class_=class_, open="" if is_open else None)


def search_box(what: str) -> Html:
    """A field that hides every element of class `sought` whose text lacks one of the words typed."""
    field = Html(
        f'<input type="search" id="search" placeholder="{html.escape(what)}" aria-label="{html.escape(what)}">'
    )
    return element("p", field, " ", element("span", "", id="search-count", class_="dim", role="status"))


def data_block(id_: str, value: object) -> Html:
    """Data for a page's script, as JSON that cannot end its element or open another.

    Args:
        id_: of the element.
        value: plain containers with finite numbers.
    """
    told = visible(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
    for sign in "&<>":
        told = told.replace(sign, f"\\u{ord(sign):04x}")
    return Html(f'<script type="application/json" id="{html.escape(id_)}">{told}</script>')


def page(title: str, *content: object, styles: Sequence[str] = (), scripts: Sequence[str] = ()) -> str:
    """A whole HTML document; text that UTF-8 cannot hold has been made visible, so it can always be written.

    Args:
        title: stands above the content and names the window.
        content: one after another.
        styles: style sheets of this page, after the one that all pages have.
        scripts: this page's own, after the one that all pages have.
    """
    styles, scripts = [STYLE, *styles], [SCRIPT, *scripts]
    policy = (
        f"default-src 'none'; style-src {_hashes(styles)}; script-src {_hashes(scripts)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    run = joined(Html(f"<script>{script}</script>") for script in scripts)
    body = element("body", element("main", element("h1", title), *content), run)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">{element("title", title)}\n'
        f"{joined(Html(f'<style>{style}</style>') for style in styles)}</head>\n{body}</html>\n"
    )


def write_page(path: Path, text: str) -> None:
    """Put a page in a file; its folder is made where it is missing.

    Raises:
        InstructLabError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, [text])
    except OSError as error:
        what = f"The page cannot be written ({error.strerror or error})"
        raise InstructLabError(what, where=str(path), do="name another file") from error


def _hashes(texts: Iterable[str]) -> str:
    return " ".join(f"'{_hash(text)}'" for text in texts)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
