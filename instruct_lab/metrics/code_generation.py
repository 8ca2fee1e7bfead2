"""A metric that runs the programs in a model's answers and checks them with tests."""

from __future__ import annotations

import math
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Problem, Refusal
from instruct_lab.metrics.base import RowMetric, Statistics, is_empty

if TYPE_CHECKING:
    from instruct_lab.generation import Prediction
    from instruct_lab.metrics import sandbox

FENCED = re.compile(r"```[^\n]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
BODY_INDENT = "    "


@component
class PassAtK(RowMetric):
    """pass@k: the probability that at least one of k answers passes all tests of a problem, as a mean over problems.

    If c of a problem's n answers (the answer and its further samples) pass, the unbiased estimate of this probability
    is `1 - C(n - c, k) / C(n, k)`. Source: Chen et al., 2021. The tests are columns of the data row: HumanEval's
    `prompt`, `test` and `entry_point`, or MBPP's `test_list` with `test_setup_code` or `test_imports`. If an answer has
    fenced code blocks, the block that defines the function is used; if no block does, the first block. The scale is 0
    to 100.

    This metric executes programs that a model wrote, so you have to allow it: with `allow_execution` in the config and
    `--allow execution` on the command line. The program and its tests run in two processes. Each process has its own
    process group, which is killed after `timeout_s`, and its own temporary folder. It does not see your environment
    variables, and its processor time, memory, file size (16 MiB) and number of open files are limited. The tests call
    the program's functions through a pipe. Arguments and results of built-in types are copied (an object of a subclass
    becomes one of the built-in type), so that they are compared by Python itself and not by code of the program. Other
    objects stay in the program's process: the tests can use their attributes, items and conversions, but cannot compare
    them or calculate with them. A program passes only if the process of the tests reports that the tests have ended,
    and exits with status 0.

    Besides these limits (`rlimits`), the sandbox around the processes has up to three layers. The metric's signature
    lists those that this machine has:

    - `landlock`: no writing outside the process's temporary folder, no reading except this folder, Python and the
      system's libraries, no execution of files (Linux 5.13 and later). Required.
    - `seccomp`: no sockets, no new processes, no signals to other processes, no change of a file's mode, owner or
      times (Linux on x86-64). Required.
    - `netns`: no network (Linux with user namespaces).

    The kernel enforces these layers, for native code too. If a required layer is missing, nothing is executed, unless
    `weak_sandbox` is set; then a program can do everything that the missing layer would prevent.

    The sandbox does not prevent everything. A program that knows the tests can return the expected values, and it can
    replace a name (except a built-in function) that the tests use without importing or defining it. Tests that compare
    results of the program with each other can be deceived. A program can read the folders of the interpreter, fill the
    temporary folder and use the processor until the timeout, and it can exploit vulnerabilities of the kernel. Use a
    virtual machine for programs from a hostile source.
    """

    reads_samples: ClassVar[bool] = True
    k: Annotated[int, Field(ge=1)] = 1  # how many answers are drawn; at least one has to pass
    allow_execution: bool = False  # allow executing programs that a model wrote; required
    timeout_s: Annotated[float, Field(gt=0)] = 10.0  # seconds until a program with its tests is killed
    memory_mb: Annotated[int, Field(ge=64)] = 1024  # limit of the address space in MiB
    packages: bool = False  # allow importing installed packages, not only the standard library
    weak_sandbox: bool = False  # execute even if Landlock or seccomp is missing: no protection of this machine

    def __post_init__(self) -> None:
        """Raise an error unless `allow_execution` is set."""
        if not self.allow_execution:
            reason = (
                "pass@k executes programs that a model wrote, in a sandbox on this machine, so it has to be allowed"
            )
            raise Refusal("allow_execution", reason, "true")

    def permissions_needed(self) -> Iterator[tuple[str, str]]:
        """Yield the fields that need the user's permission, each with the name of the permission.

        `allow_execution` needs the permission to execute programs that a model wrote. `weak_sandbox`, if it is set,
        needs the permission to execute them although a required layer of the sandbox is missing.
        """
        yield "allow_execution", "execution"
        if self.weak_sandbox:
            yield "weak_sandbox", "weak-sandbox"

    def problems(self) -> Iterator[Problem]:
        """Report if this machine cannot keep programs away from the user's files, processes and network."""
        from instruct_lab.metrics import sandbox

        if os.name == "nt":
            yield Problem(
                key="allow_execution", reason="needs the process limits of Linux or macOS; leave this metric out"
            )
        elif not self.weak_sandbox and (missing := sandbox.missing_layers()):
            reason = (
                f"this machine has no {' and no '.join(missing)}, so that a program written by a model could reach the "
                "user's files, processes or network (Linux 5.13 or later on x86-64 has both); evaluate on another "
                "machine or in a virtual machine, or execute without this protection"
            )
            yield Problem(key="weak_sandbox", reason=reason, suggestion="true")

    @property
    def num_answers(self) -> int:
        """How many answers to each prompt the metric needs: k."""
        return self.k

    def of_prediction(self, prediction: Prediction) -> Statistics:
        """Test all answers to a problem, and return three statistics.

        They are the estimated probability that one of k answers passes, a count of 1, and whether the first answer is
        empty.

        Raises:
            InstructLabError: there are fewer than k answers, or the data row has no tests.
        """
        from concurrent.futures import ThreadPoolExecutor

        answers = [prediction.text, *prediction.samples]
        if len(answers) < self.k:
            raise InstructLabError(
                f"pass@{self.k} needs {self.k} answers to each prompt, but there is {len(answers)}",
                where=prediction.id,
                do="Draw more samples (see the generation group), or lower k",
            )
        programs = {answer: program(answer, prediction.metadata, prediction.id) for answer in answers}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            passed = dict(zip(programs, pool.map(self._passes, programs.values()), strict=True))
        estimate = pass_at_k(len(answers), sum(passed[answer] for answer in answers), self.k)
        return [estimate, 1.0, is_empty(prediction.text)]

    def value(self, total: Statistics) -> float:
        """Compute the mean of the estimated probabilities over problems, 0 to 100."""
        return 100 * total[0] / total[1]

    def signature(self) -> str:
        """Describe the limits of the sandbox, and the means by which it isolates programs on this machine."""
        from instruct_lab.metrics import sandbox

        python = ".".join(map(str, sys.version_info[:2]))
        limits = f"timeout:{self.timeout_s:g}s|memory:{self.memory_mb}MiB|packages:{'yes' if self.packages else 'no'}"
        return f"pass@{self.k}|unbiased|{limits}|python:{python}|sandbox:{'+'.join(sandbox.layers())}"

    def _passes(self, source: sandbox.Program) -> bool:
        from instruct_lab.metrics import sandbox

        required = () if self.weak_sandbox else sandbox.REQUIRED
        limits: dict[str, Any] = {"timeout_s": self.timeout_s, "memory_mb": self.memory_mb, "packages": self.packages}
        return sandbox.run(source, required=required, **limits).passed


def pass_at_k(answers: int, passed: int, k: int) -> float:
    """Compute the probability that k answers, drawn without replacement, include a passing one (Chen et al., 2021).

    Args:
        answers: number of all answers.
        passed: number of answers that pass.
        k: number of answers that are drawn.
    """
    return 1 - math.comb(answers - passed, k) / math.comb(answers, k)


def program(answer: str, metadata: dict[str, Any], where: str = "") -> sandbox.Program:
    """Build the program to run for an answer, with the tests of the problem.

    Args:
        answer: code, prose with fenced code, or the function body that completes HumanEval's prompt.
        metadata: the columns of the data row, which contain the tests.
        where: id of the data row, for the error message.

    Raises:
        InstructLabError: the data row has no tests.
    """
    from instruct_lab.metrics.sandbox import Program

    entry_point = str(metadata.get("entry_point") or "")
    code = _code(answer, entry_point)
    if entry_point and metadata.get("test"):
        prompt = str(metadata.get("prompt") or "")
        tests = f"{metadata['test']}\n\ncheck({entry_point})\n"
        return Program(_complete(prompt, code, entry_point), tests, prompt, entry_point)
    if metadata.get("test_list"):
        setup = [*(metadata.get("test_imports") or []), str(metadata.get("test_setup_code") or "")]
        return Program("\n".join([code, *setup]), "\n".join([*setup, *metadata["test_list"], ""]))
    raise InstructLabError(
        "A row has no tests: neither the columns test and entry_point, nor test_list",
        where=where,
        do="Choose data with tests (data=human_eval, data=mbpp_hub), or leave pass@k out",
    )


def _code(answer: str, entry_point: str) -> str:
    blocks = FENCED.findall(answer)
    if not blocks:
        return answer
    defining = [block for block in blocks if entry_point and _defines(block, entry_point)]
    return str((defining or blocks)[0])


def _defines(code: str, name: str) -> bool:
    return re.search(rf"^(async\s+)?def\s+{re.escape(name)}\b", code, re.MULTILINE) is not None


def _complete(prompt: str, code: str, entry_point: str) -> str:
    """Build the whole program from HumanEval's prompt and an answer, which is the whole function or only its body."""
    if _defines(code, entry_point):
        return f"{prompt}\n\n{code}" if _compiles(f"{prompt}\n\n{code}") else code
    if not _compiles(prompt + code) and code.strip():
        indented = prompt + BODY_INDENT + code.lstrip()  # models often omit the indentation of the first line
        return indented if _compiles(indented) else prompt + code
    return prompt + code


def _compiles(source: str) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(source, "program.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
