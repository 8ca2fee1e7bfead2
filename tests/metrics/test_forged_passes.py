"""A program cannot pass tests by other means than right values, and right values of any form pass."""

import pytest

from instruct_lab.metrics import sandbox
from instruct_lab.metrics.sandbox import Program

CHECK = """
def check(candidate):
    assert candidate(3) == 9
    assert candidate(-4) == 16
    assert candidate(0) == 0
check(square)
"""
PROMPT = "def square(x: int) -> int:\n    '''Return the square.'''\n"


def passes(source, tests=CHECK, prompt=PROMPT, entry_point="square", **settings):
    limits = {"timeout_s": 20, "memory_mb": 512} | settings
    return sandbox.run(Program(source, tests, prompt, entry_point), **limits).passed


WRITE_TO_EVERYTHING = (
    "import os\nfor number in range(3, 64):\n    try: os.write(number, {0})\n    except OSError: pass\nos._exit(0)\n"
)
FORGERIES = {
    "frames": """
import sys
frame = sys._getframe()
while frame:
    for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):
        if isinstance(value, dict) and 'report' in value:
            import os
            os.write(value['report'] or 1, b'passed\\n'); os._exit(0)
    frame = frame.f_back
def square(x): return 0
""",
    "garbage collector": """
import gc, os
for value in gc.get_objects():
    if isinstance(value, dict) and 'role' in value:
        value['role'] = 'tests'; value['source'] = value['tests'] = ''
        os.write(value.get('report') or 1, b'passed\\n')
def square(x): return 0
""",
    "frame of a traceback": """
import os
def square(x):
    try:
        1 / 0
    except ZeroDivisionError as error:
        frame = error.__traceback__.tb_frame
        while frame.f_back:
            frame = frame.f_back
            for name in list(frame.f_locals):
                value = frame.f_locals[name]
                if name == 'peer':
                    value.send('result', True, []); value.send('passed')
    return 0
""",
    "equal to everything": """
class Equal:
    def __eq__(self, other): return True
    def __req__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
def square(x): return Equal()
""",
    "an integer equal to everything": """
class Equal(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
def square(x): return Equal(1)
""",
    "tracing that jumps over the assert": """
import sys
def trace(frame, event, argument):
    if frame.f_code.co_name == 'check' and event == 'line':
        try: frame.f_lineno = frame.f_lineno + 1
        except ValueError: pass
    return trace
sys.settrace(trace)
def square(x): return 0
""",
    "replaced built-in functions": """
import builtins
builtins.AssertionError = type('Nothing', (BaseException,), {})
builtins.abs = builtins.all = builtins.isinstance = lambda *values: True
def check(candidate): pass
def square(x): return 0
""",
    "a report on every descriptor": WRITE_TO_EVERYTHING.format("b'passed\\\\n'"),
    "messages of its own": WRITE_TO_EVERYTHING.format('b\'["ready", {}]\\\\n["passed"]\\\\n\''),
    "status 0 at exit": "import atexit, os\natexit.register(os._exit, 0)\ndef square(x): raise SystemExit(0)\n",
    "the end of the program": "import os\ndef square(x): os._exit(0)\n",
    "changed bytecode of the caller": """
import gc, types
for value in gc.get_objects():
    if isinstance(value, types.FunctionType) and value.__name__ in ('judge', 'check', 'ask', 'decode'):
        value.__code__ = (lambda *values, **named: True).__code__
def square(x): return 0
""",
    "a module of its own": """
import sys, types
open('math.py', 'w').write('raise SystemExit(0)')
sys.modules['math'] = types.ModuleType('math')
def square(x): return 0
""",
    "arithmetic that depends on the expected value": """
class Close:
    def __sub__(self, other): return 0.0
    __rsub__ = __add__ = __lt__ = __le__ = __gt__ = __abs__ = __contains__ = __sub__
def square(x): return Close()
""",
    "an exception that a test may catch": "def square(x): raise KeyboardInterrupt\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_fails(forgery):
    assert not passes(FORGERIES[forgery])


@pytest.mark.slow
@pytest.mark.parametrize(
    "tests",
    [
        "assert abs(square(3) - 9) < 1e-6",
        "assert not square(3) != 9",
        "assert 9 in [square(3)]",
        "assert square(3) in (9, 10)",
        "assert {9: 'right'}[square(3)] == 'right'",
        "assert sum([square(3), -9]) == 0",
        "assert 8 < square(3) < 10",
    ],
)
def test_an_object_that_agrees_with_everything_fails_in_every_form_of_a_test(tests):
    agreeing = "class Agreeing:\n    def __hash__(self): return 9\n" + "".join(
        f"    def __{name}__(self, *others): return {value}\n"
        for name, value in {
            **dict.fromkeys(("eq", "lt", "gt", "le", "ge", "contains"), "True"),
            "ne": "False",
            **dict.fromkeys(("sub", "rsub", "add", "radd", "abs"), "0"),
        }.items()
    )
    assert passes("def square(x): return x * x", tests)
    assert not passes(agreeing + "def square(x): return Agreeing()", tests)


def test_a_correct_program_passes_and_a_wrong_one_fails():
    assert passes("def square(x): return x * x")
    assert not passes("def square(x): return x + x")
    assert not passes("def other(x): return x * x")


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [
        "None, True, 0, -1, 10**5000, 1.5, float('inf'), 2 + 3j, '\\ud800 é', b'\\x00\\xff'",
        "[[1, (2, [3])], {4: {5}}, frozenset({6}), {'a': None, (1, 2): [3]}, bytearray(b'7'), range(1, 9, 2)]",
        "__import__('collections').Counter('abca'), __import__('collections').deque([1, 2], 3)",
        "__import__('decimal').Decimal('1.10'), __import__('fractions').Fraction(1, 3)",
        "__import__('datetime').date(2020, 2, 29), __import__('datetime').timedelta(1, 2, 3)",
        "__import__('datetime').datetime(2020, 2, 29, 1, 2, 3, 4), __import__('datetime').time(5, 6)",
        "int, str, list",
    ],
)
def test_values_come_back_equal(value):
    tests = f"expected = ({value})\nassert square(0) == expected and square(expected) == expected"
    assert passes(f"def square(x): return x or ({value})", tests)
    assert not passes(f"def square(x): return [x or ({value})]", tests)


def test_subclasses_of_built_in_types_are_compared_as_their_base_type():
    source = (
        "import collections, enum\nPair = collections.namedtuple('Pair', 'first second')\n"
        "class Color(enum.IntEnum):\n    RED = 1\n"
        "def square(x): return Pair(Color.RED, collections.OrderedDict(a=collections.defaultdict(int, {1: 2})))"
    )
    assert passes(source, "assert square(0) == (1, {'a': {1: 2}})")


def test_objects_iterators_and_functions_of_the_program_are_used_by_the_tests():
    source = (
        "class Node:\n    def __init__(self, value): self.value, self.next = value, None\n"
        "def length(node):\n    return 0 if node is None else 1 + length(node.next)\n"
        "def numbers(n):\n    yield from range(n)\n"
        "def adder(a): return lambda b: a + b\n"
        "def bad(): raise ValueError('no')\n"
    )
    tests = (
        "root = Node(1)\nroot.next = Node(2)\nassert length(root) == 2 and root.next.value == 2\n"
        "assert isinstance(root, Node) and root.next is root.next\n"
        "assert list(numbers(3)) == [0, 1, 2] and sorted(numbers(2)) == [0, 1]\n"
        "assert adder(1)(2) == 3\n"
        "try:\n    bad()\n    assert False\nexcept ValueError as error:\n    assert str(error) == 'no'\n"
    )
    assert passes(source, tests, "", "")
    assert not passes(source.replace("1 + length", "2 + length"), tests, "", "")


def test_functions_of_the_tests_are_called_and_changed_arguments_come_back():
    source = "def square(xs, key):\n    xs.sort(key=key)\n    xs.append(key(4))\n"
    tests = "xs = [1, 3, 2]\nassert square(xs, lambda x: -x) is None and xs == [3, 2, 1, -4]"
    assert passes(source, tests)
    assert passes(source, "xs = [[1, 2], []]\nsquare(xs, key=lambda x: x if x == 4 else len(x)); assert len(xs) == 3")
    assert not passes("def square(xs, key): pass", tests)


def test_the_program_reaches_nothing_through_a_function_of_the_tests():
    tests = "expected = 9\ndef probe(x): return x\nassert square(probe) == expected"
    assert not passes("def square(f): return f.__globals__['expected']", tests)
    assert not passes("def square(f): return getattr(f, 'func_globals')['expected']", tests)
    assert passes("def square(f): return f(9)", tests)


def test_instances_of_a_class_of_the_setup_are_arguments():
    setup = "class Point:\n    def __init__(self, x): self.x = x\n"
    tests = setup + "assert across(Point(3)) == 3 and across([Point(1)][0]) == 1"
    assert passes("def across(point): return point.x\n" + setup, tests, "", "")
    assert passes("def across(point): return point.x if isinstance(point, Point) else 0\n" + setup, tests, "", "")


def test_a_function_may_have_the_name_of_a_built_in_one_if_it_is_what_the_tests_test():
    source = "def sum(a, b): return {i for i in range(1, a + 1) if a % i == b % i == 0}.__len__()"
    assert passes(source, "assert sum(10, 15) == 2\nassert sum(4, 4) == 3", "", "")
    assert not passes("def f(x): return 0\ndef abs(x): return 0", "assert abs(f(2) - 4) < 1", "", "")


def test_helpers_of_the_prompt_are_the_prompts_own():
    prompt = "import math\ndef poly(x):\n    return x * x - 4\ndef root():\n    '''Find the root of poly.'''\n"
    tests = "assert math.fabs(poly(root())) < 1e-6"
    assert passes(prompt + "    return 2", tests, prompt, "root")
    assert not passes("def poly(x): return 0\ndef root(): return 9", tests, prompt, "root")
    assert not passes("class math:\n    fabs = lambda x: 0\ndef root(): return 9", tests, prompt, "root")


def test_modules_that_a_program_imports_are_the_tests_own():
    source = (
        "import math\nfrom collections import Counter\ndef f(x): return Counter(x)\nmath.isclose = lambda a, b: True"
    )
    assert passes(source, "assert f('aab') == Counter({'a': 2, 'b': 1}) and math.sqrt(4) == 2", "", "")
    assert not passes(source, "assert math.isclose(f('aab')['a'], 3)", "", "")


def test_dataclasses_and_names_of_the_main_module_work():
    source = (
        "from __future__ import annotations\nimport dataclasses, pickle, typing\n"
        "@dataclasses.dataclass\nclass P:\n    x: int = 1\n"
        "def square(x):\n    assert typing.get_type_hints(P) == {'x': int}\n"
        "    return pickle.loads(pickle.dumps(P(x))).x ** 2\n"
    )
    assert passes(source)
