"""A user's own rule, written in the config."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.config.spelling import nearest
from instruct_lab.data import Conversation
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Splits, Step, part_text, train_alone
from instruct_lab.preprocessing.filters.length import words

MAX_CHARACTERS = 2000
MAX_EXPONENT, MAX_BASE = 64, 10**9
MAX_NESTING = 50

NAMES: dict[str, Callable[[Conversation], Any]] = {
    "prompt": lambda row: part_text(row, "prompt"),  # the text before the final answer
    "question": lambda row: ["", *_said(row, "user")][-1],  # the last user message
    "answer": lambda row: part_text(row, "answer"),  # the final answer
    "rejected": lambda row: "\n".join(message.content for message in row.rejected),
    "system": lambda row: "\n".join(_said(row, "system")),
    "source": lambda row: row.source,
    "id": lambda row: row.id,
    "roles": lambda row: [message.role for message in row.messages],
    "num_messages": lambda row: len(row.messages),
    "num_turns": lambda row: len(_said(row, "user")),  # user messages
    "num_references": lambda row: len(row.references),
    "metadata": lambda row: row.metadata,
}
"""What an expression may name, and what it is of a row."""

METHODS: dict[type | None, set[str]] = {
    str: {
        *("lower", "upper", "casefold", "strip", "lstrip", "rstrip", "startswith", "endswith", "count", "find"),
        *("split", "splitlines", "removeprefix", "removesuffix", "isalpha", "isdigit", "isnumeric", "isalnum"),
        *("isascii", "isupper", "islower", "isspace", "istitle"),
    },
    dict: {"get", "keys", "values"},
    list: {"count", "index"},
}
"""What may be called on a value: nothing whose result can be much larger than what it is given."""

NODES = (
    *(ast.Constant, ast.Name, ast.Load, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call),
    *(ast.Subscript, ast.Slice, ast.Attribute, ast.Tuple, ast.List, ast.Set),
    *(ast.And, ast.Or, ast.Not, ast.UAdd, ast.USub, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod),
    *(ast.Pow, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Is, ast.IsNot),
)
"""The syntax that there is: no comprehension, no lambda, no formatted text."""


def _said(row: Conversation, role: str) -> list[str]:
    return [message.content for message in row.messages if message.role == role]


def _rounded(number: float, digits: int = 0) -> float:
    if not -20 <= digits <= 20:
        raise ValueError("digits out of range")
    return round(_number(number), digits)


def _number(value: Any) -> Any:
    if not isinstance(value, int | float):
        raise TypeError(f"a number was expected and {type(value).__name__} found")
    return value


def _power(base: Any, exponent: Any) -> Any:
    if abs(_number(base)) > MAX_BASE or abs(_number(exponent)) > MAX_EXPONENT:
        raise ValueError("power out of range")
    return base**exponent


def _numeric(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The operation on numbers alone: `%` formats text and `*` repeats it, to any size."""
    return lambda left, right: operation(_number(left), _number(right))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len,
    "words": lambda text: len(words(text)),  # how many words a text has
    "lines": lambda text: len([line for line in text.split("\n") if line.strip()]),  # how many lines that are not empty
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "int": int,
    "float": float,
    "bool": bool,
    "abs": lambda number: abs(_number(number)),
    "round": _rounded,
    "min": min,
    "max": max,
}
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: _numeric(operator.sub),
    ast.Mult: _numeric(operator.mul),
    ast.Div: _numeric(operator.truediv),
    ast.FloorDiv: _numeric(operator.floordiv),
    ast.Mod: _numeric(operator.mod),
    ast.Pow: _power,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda part, whole: part in whole,
    ast.NotIn: lambda part, whole: part not in whole,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.Not: operator.not_,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


@component
class Expression(Step):
    """Keeps the conversations for which an expression over their fields is true, without any Python.

    Names: `prompt`, `question` (the last user message), `answer`, `rejected`, `system`, `source`, `id`, `roles`,
    `num_messages`, `num_turns` (user messages), `num_references`, `metadata['column']`, and every column listed in
    `columns`. Functions: `len`, `words`, `lines`, `lower`, `upper`, `int`, `float`, `bool`, `abs`, `round`, `min`,
    `max`; methods of texts that look and do not build (`startswith`, `count`, `strip`...). Operators as in Python:
    `and or not`, `< <= == != in`, `+ - * / // % **`, `a if b else c`, `text[:100]`.
    An expression is read by simpleeval, never by `eval`: it sees the row and nothing else, and it cannot run for long,
    since there are no loops, powers are bounded and text cannot be repeated or formatted.
    """

    row_by_row: ClassVar[bool] = True

    splits: Splits = Field(default_factory=train_alone)  # which splits pass through
    keep: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]  # rows for which this is true stay
    columns: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)  # metadata columns named plainly
    on_error: Literal["drop", "keep"] = "drop"  # a row for which it cannot be worked out (a missing column, text < 3)

    def __post_init__(self) -> None:
        """Refuse what is no expression, and names that there are not."""
        for column in self.columns:
            if column in NAMES or column in FUNCTIONS or not column.isidentifier():
                raise Refusal("columns", f"{column!r} cannot stand for itself: write metadata[{column!r}]")
        _check(_parsed(self.keep), [*NAMES, *self.columns])

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the conversations for which the expression is true; counts the others, and those it fails on."""
        tree = _parsed(self.keep)
        evaluator = _evaluator()
        named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - FUNCTIONS.keys()
        fields = {name: NAMES[name] for name in named & NAMES.keys()}
        columns = named - NAMES.keys()
        for conversation in conversations:
            try:
                evaluator.names = {name: field(conversation) for name, field in fields.items()}
                evaluator.names.update((column, conversation.metadata[column]) for column in columns)
                true = bool(evaluator.eval(self.keep, previously_parsed=tree))
            except Exception as error:
                reason = f"expression failed: {_told(error)}"
                if self.on_error == "drop":
                    context.dropped(reason, conversation)
                else:
                    context.audit.record(context.stage, "reported", reason, conversation)
                    yield conversation
                continue
            if true:
                yield conversation
            else:
                context.dropped("expression is false", conversation)


def _evaluator() -> Any:
    from simpleeval import EvalWithCompoundTypes

    evaluator = EvalWithCompoundTypes(operators=OPERATORS, functions={}, names={}, allowed_attrs=METHODS)
    evaluator.functions = FUNCTIONS
    evaluator.ATTR_INDEX_FALLBACK = False
    evaluator.nodes = {kind: evaluate for kind, evaluate in evaluator.nodes.items() if kind in NODES}
    return evaluator


def _told(error: Exception) -> str:
    """An error as a reason that many rows share: its kind, and the column that is missing."""
    return f"no {error}" if isinstance(error, KeyError) else type(error).__name__


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(" ".join(text.split("\n")).strip(), mode="eval").body
    except SyntaxError as error:
        place = f" at character {error.offset}" if error.offset else ""
        raise Refusal("keep", f"is no expression: {error.msg}{place}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise Refusal("keep", f"is no expression: {error or 'it is nested too deeply'}") from error


def _check(tree: ast.expr, names: list[str]) -> None:
    """Refuse syntax that is not there, unknown names and texts too deep to work out."""
    level: list[ast.AST] = [tree]
    for _ in range(MAX_NESTING):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise Refusal("keep", f"is nested more than {MAX_NESTING} deep")
    known = sorted({*names, *FUNCTIONS})
    methods = sorted(set().union(*METHODS.values()))
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword):
            raise Refusal("keep", "arguments are given by place, not by name")
        if not isinstance(node, NODES):
            raise Refusal("keep", f"{_shown(node)} is not part of the language of expressions")
        if isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float | bool | None):
            raise Refusal("keep", f"{_shown(node)} is not part of the language of expressions")
        if isinstance(node, ast.Attribute):
            if node.attr not in methods:
                what = f"there is no method {node.attr} (columns are written metadata['column'])"
                raise Refusal("keep", what, nearest(node.attr, methods))
            if id(node) not in called:
                raise Refusal("keep", f"the method {node.attr} is not called", f"{node.attr}()")
        if isinstance(node, ast.Name) and id(node) in called and node.id not in FUNCTIONS:
            raise Refusal("keep", f"there is no function {node.id}", nearest(node.id, FUNCTIONS))
        if isinstance(node, ast.Name) and id(node) not in called and node.id in FUNCTIONS:
            raise Refusal("keep", f"the function {node.id} is not called", f"{node.id}(...)")
        if isinstance(node, ast.Name) and node.id not in known:
            what = f"there is no name {node.id}; a column is metadata['{node.id}'], or {node.id} where columns lists it"
            raise Refusal("keep", what, nearest(node.id, known))


def _shown(node: ast.AST) -> str:
    try:
        return repr(ast.unparse(node)[:60])
    except Exception:  # a node that stands for nothing by itself
        return type(node).__name__
