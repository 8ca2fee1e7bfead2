"""Filtering by an expression from the config."""

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
from instruct_lab.preprocessing.base import Context, Splits, Step, part_text, train_only
from instruct_lab.preprocessing.filters.words import split_words

MAX_CHARACTERS = 2000
MAX_EXPONENT, MAX_BASE = 64, 10**9
MAX_NESTING = 50

NAMES: dict[str, Callable[[Conversation], Any]] = {
    "prompt": lambda row: part_text(row, "prompt"),  # the text before the final answer
    "question": lambda row: ["", *_contents(row, "user")][-1],  # the last user message
    "answer": lambda row: part_text(row, "answer"),  # the final answer
    "rejected": lambda row: "\n".join(message.content for message in row.rejected),
    "desirable": lambda row: row.desirable,  # whether the final answer is desirable, or None
    "system": lambda row: "\n".join(_contents(row, "system")),
    "source": lambda row: row.source,
    "id": lambda row: row.id,
    "roles": lambda row: [message.role for message in row.messages],
    "num_messages": lambda row: len(row.messages),
    "num_turns": lambda row: len(_contents(row, "user")),  # user messages
    "num_references": lambda row: len(row.references),
    "metadata": lambda row: row.metadata,
}
"""The names that an expression may use, with the functions that compute their values for a row."""

METHODS: dict[type | None, set[str]] = {
    str: {
        *("lower", "upper", "casefold", "strip", "lstrip", "rstrip", "startswith", "endswith", "count", "find"),
        *("split", "splitlines", "removeprefix", "removesuffix", "isalpha", "isdigit", "isnumeric", "isalnum"),
        *("isascii", "isupper", "islower", "isspace", "istitle"),
    },
    dict: {"get", "keys", "values"},
    list: {"count", "index"},
}
"""Methods that may be called on a value, keyed by its type; their results are never much larger than the value."""

NODES = (
    *(ast.Constant, ast.Name, ast.Load, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call),
    *(ast.Subscript, ast.Slice, ast.Attribute, ast.Tuple, ast.List, ast.Set),
    *(ast.And, ast.Or, ast.Not, ast.UAdd, ast.USub, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod),
    *(ast.Pow, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Is, ast.IsNot),
)
"""The elements of Python's syntax that an expression may use; comprehensions, lambdas and f-strings are not allowed."""


def _contents(row: Conversation, role: str) -> list[str]:
    return [message.content for message in row.messages if message.role == role]


def _round(number: float, digits: int = 0) -> float:
    if not -20 <= digits <= 20:
        raise ValueError("digits out of range")
    return round(_number(number), digits)


def _number(value: Any) -> Any:
    if not isinstance(value, int | float):
        raise TypeError(f"expected a number, found {type(value).__name__}")
    return value


def _power(base: Any, exponent: Any) -> Any:
    if abs(_number(base)) > MAX_BASE or abs(_number(exponent)) > MAX_EXPONENT:
        raise ValueError("power out of range")
    return base**exponent


def _numeric(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Restrict an operation to numbers; on texts, `%` and `*` could produce results of any size."""
    return lambda left, right: operation(_number(left), _number(right))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len,
    "words": lambda text: len(split_words(text)),  # number of words
    "lines": lambda text: len([line for line in text.split("\n") if line.strip()]),  # number of non-empty lines
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "int": int,
    "float": float,
    "bool": bool,
    "abs": lambda number: abs(_number(number)),
    "round": _round,
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
    """Keeps the conversations for which an expression over the conversation's fields is true.

    An expression may use:

    - the names `prompt`, `question` (the last user message), `answer`, `rejected`, `desirable` (whether the answer is
      marked as desirable; None without a mark), `system`, `source`, `id`, `roles`, `num_messages`, `num_turns` (user
      messages), `num_references`, `metadata['column']`, and every column listed in `columns`;
    - the functions `len`, `words`, `lines`, `lower`, `upper`, `int`, `float`, `bool`, `abs`, `round`, `min` and `max`;
    - methods of strings that do not enlarge them (`startswith`, `count`, `strip`...);
    - operators as in Python: `and or not`, `< <= == != in`, `+ - * / // % **`, `a if b else c`, `text[:100]`.

    Expressions are evaluated by the package simpleeval, never by `eval`. An expression can read only the row, and
    cannot run for long, because there are no loops, powers are bounded and text cannot be repeated or formatted.
    """

    row_by_row: ClassVar[bool] = True

    splits: Splits = Field(default_factory=train_only)  # splits that the step processes
    keep: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]  # expression that is true for the rows to keep
    columns: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)  # metadata columns to use as names
    on_error: Literal["drop", "keep"] = "drop"  # action if the expression fails (a missing column, text < 3)

    def __post_init__(self) -> None:
        """Refuse an invalid expression, unknown names in it, and columns that cannot be used as names."""
        for column in self.columns:
            if column in NAMES or column in FUNCTIONS or not column.isidentifier():
                raise Refusal("columns", f"{column!r} cannot be a name in the expression: write metadata[{column!r}]")
        _check(_parse(self.keep), [*NAMES, *self.columns])

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the conversations for which the expression is true; the audit counts the dropped ones.

        If the expression fails on a conversation, `on_error` decides whether it is dropped, or yielded and reported.
        """
        tree = _parse(self.keep)
        evaluator = _evaluator()
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - FUNCTIONS.keys()
        fields = {name: NAMES[name] for name in used & NAMES.keys()}
        columns = used - NAMES.keys()
        for conversation in conversations:
            try:
                evaluator.names = {name: field(conversation) for name, field in fields.items()}
                evaluator.names.update((column, conversation.metadata[column]) for column in columns)
                is_true = bool(evaluator.eval(self.keep, previously_parsed=tree))
            except Exception as error:
                reason = f"expression failed: {_failure(error)}"
                if self.on_error == "drop":
                    context.count_dropped(reason, conversation)
                else:
                    context.audit.record(context.stage, "reported", reason, conversation)
                    yield conversation
                continue
            if is_true:
                yield conversation
            else:
                context.count_dropped("expression is false", conversation)


def _evaluator() -> Any:
    from simpleeval import EvalWithCompoundTypes

    evaluator = EvalWithCompoundTypes(operators=OPERATORS, functions={}, names={}, allowed_attrs=METHODS)
    evaluator.functions = FUNCTIONS
    evaluator.ATTR_INDEX_FALLBACK = False
    evaluator.nodes = {kind: evaluate for kind, evaluate in evaluator.nodes.items() if kind in NODES}
    return evaluator


def _failure(error: Exception) -> str:
    """Describe an error without its details, so that errors of one kind are counted together.

    The description names the column if a column is missing; otherwise, it is the type of the error.
    """
    return f"no {error}" if isinstance(error, KeyError) else type(error).__name__


def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(" ".join(text.split("\n")).strip(), mode="eval").body
    except SyntaxError as error:
        position = f" at character {error.offset}" if error.offset else ""
        raise Refusal("keep", f"is not an expression: {error.msg}{position}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise Refusal("keep", f"is not an expression: {error or 'it is nested too deeply'}") from error


def _check(tree: ast.expr, names: list[str]) -> None:
    """Refuse syntax that is not allowed, unknown names, and expressions that are nested too deeply."""
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
            raise Refusal("keep", "arguments must be positional, not named")
        if not isinstance(node, NODES):
            raise Refusal("keep", f"{_source(node)} is not allowed in expressions")
        if isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float | bool | None):
            raise Refusal("keep", f"{_source(node)} is not allowed in expressions")
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
            what = f"there is no name {node.id}; a column is metadata['{node.id}'], or {node.id} if columns lists it"
            raise Refusal("keep", what, nearest(node.id, known))


def _source(node: ast.AST) -> str:
    try:
        return repr(ast.unparse(node)[:60])
    except Exception:  # a node without source text
        return type(node).__name__
