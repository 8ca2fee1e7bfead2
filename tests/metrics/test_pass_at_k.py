"""pass@k: the estimate, how an answer becomes a program, and that nothing runs unasked."""

import itertools
import random

import pytest

from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.generation import Prediction
from instruct_lab.metrics import PassAtK, paired_difference, sandbox, summarize
from instruct_lab.metrics.code_generation import pass_at_k, program

HUMAN_EVAL = {
    "task_id": "HumanEval/0",
    "prompt": (
        "from typing import List\n\ndef helper(x):\n    return x + 1\n\n"
        'def last(xs: List[int]) -> int:\n    """ The last of a list, plus one.\n    """\n'
    ),
    "entry_point": "last",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([5]) == 6\n",
}
MBPP = {"test_list": ["assert square(3) == 9", "assert square(-1) == 1"], "test_setup_code": "import math"}
BODY = "    x = xs[-1]\n    return helper(x)\n"


def prediction(text, metadata=HUMAN_EVAL, samples=()):
    return Prediction("id", "test", "prompt", text, ("reference",), dict(metadata), tuple(samples))


def passes(text, metadata=HUMAN_EVAL, **fields):
    metric = PassAtK(allow_execution=True, **{"timeout_s": 100.0, **fields})
    return metric.of_prediction(prediction(text, metadata))[0] == 1


def test_nothing_is_executed_unless_the_user_says_so():
    with pytest.raises((Refusal, ValueError), match=r"allow_execution.*executes programs that a model wrote"):
        PassAtK()
    with pytest.raises((Refusal, ValueError), match="allow_execution"):
        PassAtK(allow_execution=False, k=2)


@pytest.mark.parametrize(("answers", "passed"), [(1, 0), (1, 1), (5, 2), (6, 0), (6, 6), (7, 1)])
def test_the_estimate_is_the_share_of_all_choices_of_k_answers(answers, passed):
    for k in range(1, answers + 1):
        results = [True] * passed + [False] * (answers - passed)
        choices = list(itertools.combinations(results, k))
        assert pass_at_k(answers, passed, k) == pytest.approx(sum(map(any, choices)) / len(choices), abs=1e-12)


@pytest.mark.parametrize(
    "answer",
    [
        BODY,
        BODY.strip(),  # the first line's indentation was lost
        f"```python\n{BODY}```",
        f"Here you are:\n\n```python\n{HUMAN_EVAL['prompt']}{BODY}```\nIt adds one.",
        "```py\nimport this_is_not_it\n```\nor\n```\ndef last(xs):\n    return helper(xs[-1])\n```",
        "def last(xs):\n    return xs[-1] + 1",
        "```python\ndef last(xs):\n    return xs[-1] + 1",  # cut off before its fence
    ],
)
def test_an_answer_is_a_body_a_function_or_prose_with_either(answer):
    assert passes(answer)


@pytest.mark.parametrize(
    "answer",
    ["", "    return None", "    return helper(xs[0])", "I do not know.", "    import sys; sys.exit(0)", "    exit()"],
)
def test_a_wrong_or_evasive_answer_fails(answer):
    assert not passes(answer)


def test_leaving_at_the_top_level_before_the_tests_fails():
    assert not passes("def last(xs):\n    return 0\nimport os\nos._exit(0)")
    assert not passes("import sys\ndef square(x): return 0\nsys.exit(0)", MBPP)


def test_mbpp_runs_its_list_of_tests_with_its_setup():
    assert passes("def square(x):\n    return x * x", MBPP)
    assert passes("```python\ndef square(x):\n    return int(math.pow(x, 2))\n```", MBPP)  # of the setup
    assert not passes("def square(x):\n    return 9", MBPP)
    imports = {"test_list": MBPP["test_list"], "test_imports": ["import math"], "prompt": "Square a number."}
    assert passes("def square(x):\n    return int(math.pow(x, 2))", imports)


def test_samples_count_and_the_value_is_a_mean_over_problems():
    metric = PassAtK(k=2, allow_execution=True)
    good, bad = BODY, "    return None"
    rows = [
        metric.of_prediction(prediction(bad, samples=[good, bad, bad])),  # 1 of 4
        metric.of_prediction(prediction(good, samples=[good, good, good])),
    ]
    assert rows == [[pytest.approx(0.5), 1.0, 0.0], [1.0, 1.0, 0.0]]
    found = summarize(metric, rows)
    assert found.value == pytest.approx(75)
    assert "pass@2|unbiased|timeout:10s|memory:1024MiB|packages:no" in found.signature
    assert "sandbox:rlimits" in found.signature
    assert paired_difference(metric, rows, rows[::-1]).value == 0


def test_too_few_samples_and_rows_without_tests_are_refused():
    with pytest.raises(InstructLabError, match="needs 3 answers to each prompt, but there is 2"):
        PassAtK(k=3, allow_execution=True).of_prediction(prediction(BODY, samples=[BODY]))
    with pytest.raises(InstructLabError, match="no tests"):
        PassAtK(allow_execution=True).of_prediction(prediction(BODY, {"prompt": "def f():"}))
    with pytest.raises(InstructLabError, match="columns of a row"):
        PassAtK(allow_execution=True).statistics(BODY, ("reference",))


@pytest.mark.slow
def test_the_limits_are_those_of_the_config():
    assert not passes("    import time; time.sleep(1)\n" + BODY, timeout_s=0.5)
    assert passes("    y = bytearray(200 << 20)\n" + BODY)
    assert not passes("    y = bytearray(200 << 20)\n" + BODY, memory_mb=64)
    assert not passes("    import pydantic_core\n" + BODY)
    assert passes("    import pydantic_core\n" + BODY, packages=True)


def test_an_empty_answer_is_counted_in_the_signature():
    metric = PassAtK(allow_execution=True)
    rows = [metric.of_prediction(prediction(text)) for text in ("", BODY)]
    assert "|empty:1" in summarize(metric, rows, resamples=2).signature


def test_any_text_becomes_a_program_or_a_clear_error():
    draw = random.Random(0)
    for _ in range(300):
        answer = "".join(draw.choices("`\n \tpython def last(xs): return\\\0\"'#éλ(", k=draw.randint(0, 60)))
        assert "check(last)" in program(answer, HUMAN_EVAL).tests
    assert "check(last)" in program("(" * 5000, HUMAN_EVAL).tests


def test_a_machine_without_protection_is_refused_unless_the_user_accepts_it(monkeypatch):
    monkeypatch.setattr(sandbox, "layers", lambda: ("rlimits", "netns"))
    (problem,) = PassAtK(allow_execution=True).problems()
    assert problem.key == "weak_sandbox"
    assert problem.refuses
    assert "no landlock and no seccomp" in problem.reason
    assert not list(PassAtK(allow_execution=True, weak_sandbox=True).problems())
    monkeypatch.setattr(sandbox, "layers", lambda: ("rlimits", "landlock4", "seccomp"))
    assert not list(PassAtK(allow_execution=True).problems())
