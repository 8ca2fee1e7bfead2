"""Calls between the process of a program and the process of its tests, and the values that they exchange as JSON.

Values of built-in types are copied, so that Python itself compares them. Every other object stays in its process; the
other process gets a `Remote`, which forwards calls, attributes, items and conversions. Comparisons and arithmetic are
not forwarded, because they would let the program decide the outcome of a test.
"""

import builtins
import importlib
import json
import os
from collections.abc import Callable, KeysView
from typing import Any

CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    kind.__name__: kind for kind in (bool, len, str, repr, int, float, iter, next)
}
OPERATIONS: dict[str, Callable[..., Any]] = CONVERSIONS | {
    "getattr": getattr,
    "setattr": setattr,
    "getitem": lambda value, key: value[key],
    "setitem": lambda value, key, item: value.__setitem__(key, item),
    "isinstance": lambda kind, value: isinstance(value, kind),
}
SEQUENCES: dict[str, Any] = {kind.__name__: kind for kind in (list, tuple, set, frozenset, bytearray)}
TYPES = {"bool", "int", "float", "complex", "str", "bytes", "dict", *SEQUENCES}
PLAIN: dict[type, Callable[[Any], Any]] = {int: int.__int__, float: float.__float__, str: str.__str__}
CHANGEABLE = (list, dict, set, bytearray)


class Remote:
    """A stand-in for an object of the other process; it forwards calls, attributes, items and conversions to it."""

    __slots__ = ("__number", "__peer")

    def __init__(self, peer: "Peer", number: int) -> None:
        object.__setattr__(self, "_Remote__peer", peer)
        object.__setattr__(self, "_Remote__number", number)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__name__", "__doc__"):
            raise AttributeError(name)
        return self.__peer.ask("getattr", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self.__peer.ask("setattr", self, name, value)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the object in the other process."""
        return self.__peer.call(self, arguments, named)

    def __getitem__(self, key: Any) -> Any:
        return self.__peer.ask("getitem", self, key)

    def __setitem__(self, key: Any, item: Any) -> None:
        self.__peer.ask("setitem", self, key, item)

    def __instancecheck__(self, value: object) -> bool:
        """Whether `value` stands for an object of the other process that is an instance of the class `self`."""
        return isinstance(value, Remote) and self.__peer.ask("isinstance", self, value) is True


def _forward(name: str) -> Callable[[Remote], Any]:
    return lambda self: self._Remote__peer.ask(name, self)


for _name in CONVERSIONS:
    setattr(Remote, f"__{_name}__", _forward(_name))


class Peer:
    """This process's end of the connection between the process of a program and the process of its tests.

    Args:
        reader: the file descriptor of incoming messages.
        writer: the file descriptor of outgoing messages.
        namespace: the global variables of this process's program or tests.
        answers: whether the other process may use attributes and items of this process's objects; otherwise, it may
            only call functions that it was given.
    """

    def __init__(self, reader: int, writer: int, namespace: dict[str, Any], answers: bool) -> None:
        self.reader, self.writer = os.fdopen(reader, "rb"), os.fdopen(writer, "wb")
        self.namespace, self.answers = namespace, answers
        self.objects: list[Any] = []  # of this process, known to the other one by their numbers
        self.numbers: dict[int, int] = {}
        self.remotes: dict[int, Remote] = {}

    def send(self, *message: Any) -> None:
        """Send one message, as a line of JSON, to the other process."""
        self.writer.write(json.dumps(message).encode() + b"\n")
        self.writer.flush()

    def receive(self) -> list[Any]:
        """Wait for a message from the other process; end this process if the other process has ended."""
        line = self.reader.readline()
        if not line.endswith(b"\n"):
            os._exit(1)
        message: list[Any] = json.loads(line)
        return message

    def ask(self, operation: str, *values: Any) -> Any:
        """Request an operation from the other process; return its result or raise its exception."""
        self.send(operation, [self.encode(value) for value in values], {})
        return self.decode(self._result()[0])

    def call(self, function: Remote, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call a function of the other process, and return its result.

        If the function changes lists, sets or dictionaries among its arguments, these are changed here in the same way.
        """
        values = [self.encode(value) for value in (function, *arguments)]
        self.send("call", values, {name: self.encode(value) for name, value in named.items()})
        result, changes = self._result()
        for index, encoded in changes:
            argument, changed = arguments[index], self.decode(encoded)
            if type(argument) in CHANGEABLE and type(changed) is type(argument):
                argument.clear()
                argument.extend(changed) if isinstance(argument, list | bytearray) else argument.update(changed)
        return self.decode(result)

    def _result(self) -> list[Any]:
        while True:
            kind, *message = self.receive()
            if kind == "result":
                return message
            if kind == "error":
                raise _exception(*message)
            self.answer(kind, *message)

    def answer(self, operation: str, values: list[Any], named: dict[str, Any]) -> None:
        """Perform an operation that the other process requested, and send it the result or the exception.

        Args:
            operation: the operation's name, such as `call` or `getattr`.
            values: the encoded values to which the operation is applied; for a call, the function and its arguments.
            named: the encoded keyword arguments of a call.
        """
        try:
            decoded = [self.decode(value) for value in values]
            changes: list[Any] = []
            if operation == "call":
                function, *arguments = decoded
                result = function(*arguments, **{name: self.decode(value) for name, value in named.items()})
                changes = [
                    [index, after]
                    for index, (argument, before) in enumerate(zip(arguments, values[1:], strict=True))
                    if type(argument) in CHANGEABLE and (after := self.encode(argument)) != before
                ]
            elif self.answers:
                result = OPERATIONS[operation](*decoded)
            else:
                raise TypeError("the objects of the tests can only be called")
            reply = [self.encode(result), changes]
        except Exception as error:
            self.send("error", [kind.__name__ for kind in type(error).__mro__], _text(error))
        else:
            self.send("result", *reply)

    def encode(self, value: Any) -> Any:
        """Convert a value to what JSON can express.

        An object of a type that cannot be copied stays in this process; the other process gets a number that stands for
        it.
        """
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, Remote):
            return ["yours", value._Remote__number]
        for kind, convert in PLAIN.items():
            if isinstance(value, kind):
                return convert(value)
        if isinstance(value, bytes | complex):
            return ["bytes", value.hex()] if isinstance(value, bytes) else ["complex", value.real, value.imag]
        if isinstance(value, dict):
            return ["dict", [[self.encode(key), self.encode(item)] for key, item in value.items()]]
        for name, kind in SEQUENCES.items():
            if isinstance(value, kind):
                return [name, [self.encode(item) for item in value]]
        if isinstance(value, range):
            return ["range", value.start, value.stop, value.step]
        if isinstance(value, KeysView):
            return ["set", [self.encode(key) for key in value]]
        return self._encode_library_value(value) or self._encode_reference(value)

    def _encode_library_value(self, value: Any) -> list[Any] | None:
        module, kind = type(value).__module__, type(value).__name__
        if module in ("decimal", "fractions") and kind in ("Decimal", "Fraction"):
            return [kind, str(value)]
        if module == "datetime" and kind in ("datetime", "date", "time"):
            return [kind, value.isoformat()]
        if module == "datetime" and kind == "timedelta":
            return [kind, value.days, value.seconds, value.microseconds]
        if module == "collections" and kind == "deque":
            return [kind, [self.encode(item) for item in value], value.maxlen]
        if module == "numpy" and hasattr(value, "tolist"):
            items = self.encode(value.tolist())
            return ["ndarray", items, value.dtype.str] if kind == "ndarray" else ["scalar", items, value.dtype.str]
        return None

    def _encode_reference(self, value: Any) -> list[Any]:
        name = getattr(value, "__name__", None)
        if isinstance(name, str) and getattr(builtins, name, None) is value and (not self.answers or name in TYPES):
            return ["builtin", name]
        own_class = self.namespace.get(type(value).__name__) is type(value)
        if not self.answers and own_class and not callable(value):  # an instance of a class that the tests define
            return ["instance", type(value).__name__, self.encode(dict(vars(value)))]
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        return ["mine", self.numbers[id(value)]]

    def decode(self, encoded: Any) -> Any:
        """Build a value from what `encode` returned in the other process.

        Only objects of built-in types, and of a few types of the standard library and NumPy, are created. There is one
        exception: if the tests pass an instance of a class that they define, the program's process creates an instance
        of the class that has the same name in the program.
        """
        if not isinstance(encoded, list):
            return encoded
        kind, *parts = encoded
        if kind in SEQUENCES:
            return SEQUENCES[kind]([self.decode(item) for item in parts[0]])
        if kind == "dict":
            return {self.decode(key): self.decode(item) for key, item in parts[0]}
        if kind == "bytes":
            return bytes.fromhex(parts[0])
        if kind in ("complex", "range"):
            return complex(*parts) if kind == "complex" else range(*parts)
        if kind == "mine":
            return self.remotes.setdefault(parts[0], Remote(self, parts[0]))
        if kind == "yours":
            return self.objects[parts[0]]
        if kind == "builtin" and (self.answers or parts[0] in TYPES):  # a program does not hand eval to the tests
            return getattr(builtins, parts[0])
        if kind == "instance" and self.answers:
            created = object.__new__(self.namespace[parts[0]])
            vars(created).update(self.decode(parts[1]))
            return created
        return self._decode_library_value(kind, parts)

    def _decode_library_value(self, kind: str, parts: list[Any]) -> Any:
        if kind in ("Decimal", "Fraction"):
            module = importlib.import_module("decimal" if kind == "Decimal" else "fractions")
            return getattr(module, kind)(str(parts[0]))
        if kind in ("datetime", "date", "time", "timedelta"):
            created = getattr(importlib.import_module("datetime"), kind)
            return created(*parts) if kind == "timedelta" else created.fromisoformat(parts[0])
        if kind == "deque":
            return importlib.import_module("collections").deque(map(self.decode, parts[0]), parts[1])
        if kind in ("ndarray", "scalar"):
            array = importlib.import_module("numpy").array(self.decode(parts[0]), dtype=parts[1])
            return array if kind == "ndarray" else array[()]
        raise ValueError(f"unknown kind of value: {kind}")


def _text(error: Exception) -> str:
    try:
        return str.__str__(str(error))[:1000]
    except Exception:
        return ""


def _exception(names: list[str], text: str) -> Exception:
    """Build an exception of the first class in `names` that is a built-in exception, or else a `RuntimeError`.

    Args:
        names: names of the class of an exception in the other process, and of the classes that it inherits from.
        text: the message.
    """
    kinds = (getattr(builtins, str(name), None) for name in names)
    kind = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception)), RuntimeError)
    try:
        return kind(text)
    except TypeError:  # a class that needs more arguments
        return RuntimeError(text)
