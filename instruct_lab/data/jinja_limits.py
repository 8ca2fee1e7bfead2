"""Limits on the computing time and the memory of Jinja templates, which may come from an untrusted source.

Jinja's own sandbox denies a template access to Python's internals, but lets it use any amount of memory and time.
Here, loops and calls are counted as steps, and the size of a result that can be much larger than its operands is
estimated before the result is computed. The compiler does not evaluate constant expressions, because steps are counted
only during rendering.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment
from jinja2.tests import test_in

from instruct_lab.data.jinja_code import LimitedCodeGenerator

MAX_STEPS = 4_000_000
"""Maximum number of steps of one rendering: an iteration of a loop is one step, a call ten and a filter five."""
CALL_STEPS, FILTER_STEPS = 10, 5
MAX_CHARACTERS = 4 << 20
"""Maximum size of one value, in characters or items; four times the size of the template's variables is added."""
MAX_TOTAL = 1 << 30
"""Maximum size of all values of one rendering, in characters and items; 100 times the variables' size is added."""
MAX_WIDTH = 10_000
MAX_BITS = 10_000
COMPARISONS = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge, test_in)
NUMBER = re.compile(r"\d+")
NESTED_FIELD = re.compile(r"[:!][^{}]*\{")

PADDING = ("ljust", "rjust", "center", "zfill")
WIDTHS = (*PADDING, "expandtabs", "indent", "wordwrap", "batch", "slice", "tojson", "round", "pprint")
"""Methods and filters that take a number as a width, a count or a precision."""
REPEATING = ("indent", "wordwrap", "expandtabs", "translate")
"""Methods and filters whose result may contain an argument once for each character or line of the text."""
UNSIZED = ("length", "count", "first", "last", "default", "d", "map", "select", "reject", "selectattr", "rejectattr")
"""Filters whose results need no size estimate, because they neither convert their operand to text nor copy it."""


class TemplateLimitExceeded(jinja2.TemplateRuntimeError):
    """Raised if a template needs more steps or memory than allowed."""


class Budget:
    """The steps and characters that one rendering of a template may still use.

    Args:
        input_size: number of characters and items in the template's variables.
    """

    def __init__(self, input_size: int) -> None:
        self.steps, self.total = MAX_STEPS, MAX_TOTAL + 100 * input_size
        self.largest = MAX_CHARACTERS + 4 * input_size

    def charge(self, size: int, steps: int = 1) -> None:
        """Deduct from the budget a number of steps, and the size of a value that is about to be created.

        Args:
            size: number of characters or items in the value.
            steps: number of steps.

        Raises:
            TemplateLimitExceeded: too few steps or characters are left, or the value is too large.
        """
        self.steps -= steps
        self.total -= size
        if self.steps < 0:
            raise TemplateLimitExceeded(f"it needs more than {MAX_STEPS:,} steps (iterations, calls, filters)")
        if size > self.largest or self.total < 0:
            raise TemplateLimitExceeded(f"it writes or computes a text of more than {self.largest:,} characters")


_budget: ContextVar[Budget] = ContextVar("budget")


def render(template: jinja2.Template, variables: Mapping[str, Any]) -> str:
    """Render a template with limited steps and memory.

    The template must have been compiled by an environment that was passed to `limit`.

    Raises:
        TemplateLimitExceeded: the template needs more steps or memory than allowed.
    """
    token = _budget.set(Budget(size_of(variables, MAX_TOTAL)))
    try:
        return template.render(variables)
    except (MemoryError, OverflowError) as error:
        raise TemplateLimitExceeded(f"it computes too large a value ({error or 'memory'})") from error
    finally:
        _budget.reset(token)


def limit(environment: SandboxedEnvironment) -> SandboxedEnvironment:
    """Change a Jinja environment so that `render` can limit the steps and memory of the templates it compiles."""
    changed: Any = environment
    changed.optimized = False
    changed.finalize = _finalize  # as it needs the context, no output is computed by the compiler
    changed.code_generator_class = LimitedCodeGenerator
    changed.intercepted_binops = frozenset(_BINARY)
    changed.call_binop = lambda context, name, left, right: _BINARY[name](left, right)
    changed.call = functools.partial(_call, environment.call)
    changed.filters = {name: _limit_filter(name, function) for name, function in environment.filters.items()}
    changed.globals.pop("lipsum", None)  # draws random words, regardless of any seed
    changed.tests = {name: _limit_test(function) for name, function in changed.tests.items()}
    changed.getitem = functools.partial(_getitem, environment.getitem)
    changed.limited_text, changed.limited_value = _text, _value
    changed.limited_operand, changed.limited_iteration = _operand, _iteration
    return environment


def size_of(value: Any, largest: int | None = None) -> int:
    """Estimate the number of characters that a value has as text.

    Args:
        value: a text, a number, or nested lists and dictionaries of these.
        largest: the size above which counting stops. With `None`, it is the maximum size of a value in the current
            rendering, and each item of the value also counts as a step of the rendering.
    """
    if isinstance(value, str | bytes):
        return len(value)
    limit_of_rendering = _budget.get().largest if largest is None else largest
    size, pending, visited = 0, [value], 0
    while pending and size <= limit_of_rendering:
        visited += 1
        one = pending.pop()
        if isinstance(one, str | bytes):
            size += len(one) + 2
        elif isinstance(one, Mapping):
            pending += [*one.keys(), *one.values()]
            size += 2
        elif isinstance(one, list | tuple | set | frozenset):
            pending += one
            size += 2
        else:
            size += one.bit_length() // 3 + 1 if isinstance(one, int) else 24
    if largest is None and visited > 1:
        _charge(0, steps=visited)
    return size


def _charge(size: int, steps: int = 1) -> None:
    _budget.get().charge(size, steps)


@jinja2.pass_context
def _finalize(context: Any, value: Any) -> Any:
    _charge(size_of(value))
    return value


def _text(parts: tuple[Any, ...]) -> str:
    _charge(sum(map(size_of, parts)))
    return "".join(map(str, parts))


def _value(value: Any) -> Any:
    _charge(len(value) if hasattr(value, "__len__") else 1)
    return value


def _operand(value: Any) -> Any:
    """Deduct the size of a list or mapping from the budget before it is compared or hashed, and return the value."""
    if isinstance(value, list | tuple | Mapping):
        _charge(size_of(value))
    return value


def _getitem(getitem: Callable[[Any, Any], Any], subject: Any, key: Any) -> Any:
    return getitem(subject, _operand(key))


def _iteration(values: Any, text: int) -> Any:
    """Return the values of a loop, and count its iterations: at once if their number is known, else one by one.

    Args:
        values: the values over which the loop iterates.
        text: number of characters that the template itself writes in each iteration.
    """
    if hasattr(values, "__len__"):
        _budget.get().total -= text * len(values)
        _charge(0, steps=len(values))
        return values

    def count() -> Iterator[Any]:
        for value in values:
            _charge(text)
            yield value

    return count() if hasattr(values, "__iter__") else values


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, str | bytes | list | tuple):
        _charge(len(left) + (len(right) if hasattr(right, "__len__") else 0))
    return left + right


def _multiply(left: Any, right: Any) -> Any:
    for one, other in ((left, right), (right, left)):
        if isinstance(other, int) and isinstance(one, str | bytes | list | tuple):
            _charge(len(one) * max(other, 0))
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    return left * right


def _power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * abs(right))
    return left**right


def _modulo(left: Any, right: Any) -> Any:
    if isinstance(left, str | bytes):
        values = right if isinstance(right, tuple) else (right,)
        _charge(_formatted_size(left, "%", values))
    return left % right


_BINARY: dict[str, Callable[[Any, Any], Any]] = {"+": _add, "*": _multiply, "**": _power, "%": _modulo}


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise TemplateLimitExceeded(f"it computes a number of more than {MAX_BITS:,} bits")


def _check_widths(values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, int) and abs(value) > MAX_WIDTH:
            raise TemplateLimitExceeded(f"it uses {value!r:.20} as a width or a count; the largest is {MAX_WIDTH:,}")


def _formatted_size(pattern: str | bytes, mark: str, values: Iterable[Any]) -> int:
    """Estimate the size of a formatted text from the number of its fields, the largest value and the largest width.

    Args:
        pattern: the text with fields.
        mark: the character that begins a field: `%` or `{`.
        values: the values of the fields.
    """
    text = pattern if isinstance(pattern, str) else pattern.decode("latin-1")
    values = list(values)
    widths = [int(number[:9]) for number in NUMBER.findall(text)] if mark in text else []
    if "*" in text or NESTED_FIELD.search(text):  # the width of a field is one of the values
        widths += [value for value in values if isinstance(value, int)]
    _check_widths(widths)
    return len(text) + text.count(mark) * (max(map(size_of, values), default=0) + max(widths, default=0))


def _result_size(name: str, subject: Any, values: list[Any]) -> int:
    """Estimate, before a method or filter is applied to a text, how large its result will be."""
    if name in WIDTHS:
        _check_widths(values)
    text = subject if isinstance(subject, str) else subject.decode("latin-1") if isinstance(subject, bytes) else ""
    lengths = [size_of(value) for value in values]
    if name == "replace" and len(values) > 1 and isinstance(values[0], type(subject)):
        return len(text) + subject.count(values[0]) * lengths[1]
    if name == "join":
        return sum(lengths) + size_of(subject) * max(
            len(value) if isinstance(value, list) else 1 for value in [[], *values]
        )
    if name in ("format", "format_map"):
        return _formatted_size(text, "{", values)
    if name in REPEATING:
        repeated = max([4, *lengths, *(value for value in values if isinstance(value, int))])
        return len(text) + repeated * (1 + (text.count("\n") if name == "indent" else len(text)))
    return size_of(subject) + sum(lengths)


def _call(call: Callable[..., Any], context: Any, function: Any, *values: Any, **named: Any) -> Any:
    """Call a method, a macro or a function of a template; count steps for the call, and refuse too large a result."""
    if function is _iteration:
        return _iteration(*values)
    method = getattr(function, "__wrapped__", function)
    subject, name = getattr(method, "__self__", None), str(getattr(method, "__name__", ""))
    if isinstance(subject, str | bytes):
        values = tuple(_materialize(value) if name == "join" else value for value in values)
        _charge(_result_size(name, subject, [*values, *named.values()]), CALL_STEPS)
    else:
        if isinstance(subject, int):  # the length of `to_bytes`
            _check_widths([*values, *named.values()])
        if isinstance(subject, list | tuple | Mapping) or name == "changed" or isinstance(function, type):
            for value in values:  # such as a key of `get` or `dict`, or a value of `count` or `loop.changed`
                _operand(value)
        _charge(sum(len(value) for value in values if hasattr(value, "__len__")), CALL_STEPS)
    result = call(context, function, *values, **named)
    if isinstance(result, str | bytes | list | tuple):
        _charge(len(result))
    return result


def _limit_test(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a Jinja test that compares two values, so that the items of both are counted as steps.

    A test that compares nothing is returned unchanged.
    """
    if function not in COMPARISONS:
        return function

    def limited(left: Any, right: Any) -> Any:
        return function(_operand(left), _operand(right))

    return limited


def _limit_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a Jinja filter so that a result that would be too large is refused before the filter computes it."""
    num_passed = int(hasattr(function, "jinja_pass_arg"))  # the context or the environment before the operand

    @functools.wraps(function)
    def limited(*values: Any, **named: Any) -> Any:
        passed, (operand, *others) = values[:num_passed], values[num_passed:]
        options = [*others, *named.values()]
        _charge(0, FILTER_STEPS)
        if name == "join":
            operand = _materialize(operand)
            separator = options[0] if options else ""
            _charge(_result_size("join", separator, [operand]))
        elif name == "format":
            _charge(_formatted_size(str(operand), "%", options))
        elif name not in UNSIZED:
            operand = (
                operand if hasattr(operand, "__len__") or not hasattr(operand, "__iter__") else _materialize(operand)
            )
            _charge(_result_size(name, operand, options))
        result = function(*passed, operand, *others, **named)
        if isinstance(result, str | list | tuple):
            _charge(len(result))
        return result

    return limited


def _materialize(values: Any) -> Any:
    """Return the items of an iterable as a list, and count each as a step.

    Texts, mappings and objects that are not iterable are returned unchanged.
    """
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        return values
    return list(_iteration(values, 1))
