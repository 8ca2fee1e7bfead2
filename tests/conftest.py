"""Nothing here reaches a network, a user's caches or a user's accounts."""

import collections
import functools
import gc
import os
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # here and in started processes alike: some sums depend on it
os.environ.update(RAY_worker_niceness="0")  # Ray's 15 would leave its workers no time beside those of pytest
os.environ.pop("WANDB_API_KEY", None)
os.environ.pop("COLUMNS", None)  # xdist sets it; printed lines would be wrapped
os.environ["INSTRUCT_LAB_ALLOW"] = "support"  # classes of the tests' own package
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp()  # no settings of the user
os.fsync = lambda descriptor: None  # no record of a test must outlast a power failure; a run waits 0.1 s for its disk


import hypothesis
import pytest
import support.slow_machine  # noqa: F401
from support.lab import TINY, write_lab
from support.records import newest_run

from instruct_lab import cli
from instruct_lab.records import environment

code_version, code_version_once = environment.code_version, functools.cache(environment.code_version)
environment.code_version = lambda *path: code_version(*path) if path else code_version_once()  # git, five times a run
hypothesis.settings.register_profile("suite", deadline=None)  # a slow machine is no failure
hypothesis.settings.load_profile("suite")
gc.set_threshold(100_000, 20, 100)  # the libraries and the tests are millions of objects that stay
LONGEST = (
    *("test_trajectories.py", "test_launchers.py", "test_sweep_end_to_end.py", "test_architecture.py"),
    *("test_matrix.py", "test_help_examples.py", "test_samplers_and_pruners.py", "test_hostile_configs.py"),
    *("test_kill_storm.py", "test_compiled_layers.py", "test_plan.py", "test_peft_library.py", "test_benchmarks.py"),
    *("test_bad_options.py", "test_large_sweeps.py", "test_permissions.py", "test_planted_secrets.py"),
)
"""The files of tests that take longest: a worker that begins one of them last keeps the other waiting."""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A user's own folder with one local JSONL file and a data option for it; the command runs there."""
    write_lab(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INSTRUCT_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def few_schemas(monkeypatch):
    """`init` writes the JSON Schemas of two groups instead of all, which takes seconds."""
    monkeypatch.setattr("instruct_lab.editors.schema.GROUPS", ("batching", "data"))


@pytest.fixture(autouse=True)
def own_modules_end_with_their_test():
    """The modules of a lab are known in no process that a later test starts."""
    yield
    os.environ.pop("INSTRUCT_LAB_MODULES", None)


@pytest.fixture(scope="module", autouse=True)
def the_service_of_wandb_ends_with_its_module():
    """wandb's process looks for work as long as this process lives, which takes a tenth of a core."""
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


@pytest.fixture
def lab_code_allowed(monkeypatch):
    """The lab's own Python may run, in started processes too."""
    monkeypatch.setenv("INSTRUCT_LAB_ALLOW", "support,lab-code")


@pytest.fixture
def tiny():
    """Overrides of a run of a few seconds in the `lab`."""
    return list(TINY)


@pytest.fixture
def train(lab):
    """Run `instruct-lab train` in this process; gives the record's folder."""

    def run(*overrides):
        assert cli.main(["train", *TINY, *overrides]) == 0
        return newest_run(lab)

    return run


def pytest_collection_modifyitems(items):
    """Put the longest files first, then those with the most slow tests, so that the workers end at the same time."""
    longest = {name: index for index, name in enumerate(LONGEST)}
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    count = collections.Counter(item.path for item in items)

    def rank(item):
        return longest.get(item.path.name, len(longest)), -slow[item.path], -count[item.path], item.path

    items.sort(key=rank)


def pytest_collection_finish():
    """Leave the libraries and the collected tests out of all later collections of garbage."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """How many combinations of the matrix were shown to do what is claimed of them."""
    kinds = {
        "claims_to_train": "train",
        "trains_nothing": "answer without training",
        "is_refused": "are refused, and failed or made no sense when forced",
    }
    passed = [r.nodeid for r in terminalreporter.stats.get("passed", []) if "test_matrix.py" in r.nodeid]
    counts = {told: sum(part in name for name in passed) for part, told in kinds.items()}
    if any(counts.values()):
        terminalreporter.write_line("matrix: " + ", ".join(f"{count} {told}" for told, count in counts.items()))
