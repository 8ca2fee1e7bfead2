"""Data prepared by the tasks of a Ray cluster: the same bytes, audits and errors as by one process."""

import dataclasses
import json
import logging
import os

import pytest
from test_parallel import FILES, STEPS, PartAndProcess, write_rows

from instruct_lab import cli
from instruct_lab.cache import Store, map_in_order, parallel, worker_processes
from instruct_lab.data import DataSet, Files, HashSplit, PromptCompletion
from instruct_lab.data.stages import audit_of
from instruct_lab.errors import InstructLabError
from instruct_lab.preprocessing import Preprocessing

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'instruct-lab[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.launchers]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One local cluster of two CPUs for all tests, which the workers find and leave running."""
    from instruct_lab.cache import ray_workers

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        patch.syspath_prepend(os.path.dirname(__file__))  # where the tasks find the functions of the tests
        ray.init = _with_two_cpus(ray.init)
        ray_workers.connect(None, "the test", "")
        yield
        ray.shutdown()
        ray.init = ray.init.of_library


def _with_two_cpus(init):
    def start(**options):
        return init(num_cpus=2, **options)

    start.of_library = init
    return start


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(parallel, "PATIENCE_SECONDS", 0.0)


@dataclasses.dataclass(frozen=True)
class FailsElsewhere:
    process: int

    def __call__(self, part):
        if os.getpid() != self.process:
            raise FileNotFoundError("/cache/rows.arrow")
        return part


@dataclasses.dataclass(frozen=True)
class ItsWorkers:
    """The processes that share work inside a task."""

    def __call__(self, part):
        with worker_processes("ray"):
            return type(parallel.current_workers.get()).__name__


def test_parts_come_in_order_from_tasks_and_from_this_process():
    with worker_processes("ray"):
        found = list(map_in_order(PartAndProcess(0.05), range(60)))
        assert [part for part, _ in found] == list(range(60))
        assert len({process for _, process in found}) > 1
        errors = []
        with pytest.raises(InstructLabError) as error:
            list(map_in_order(PartAndProcess(0.01, fails_at=17), range(30)))
        errors.append(str(error.value))
    with pytest.raises(InstructLabError) as error:
        list(map_in_order(PartAndProcess(fails_at=17), range(30)))
    assert errors == [str(error.value)]


def test_a_part_that_only_the_cluster_cannot_do_is_done_here_with_one_warning(caplog):
    with worker_processes("ray"), caplog.at_level(logging.WARNING):
        assert list(map_in_order(FailsElsewhere(os.getpid()), range(40))) == list(range(40))
    (warning,) = [record.getMessage() for record in caplog.records if "Ray" in record.getMessage()]
    assert "FileNotFoundError: /cache/rows.arrow" in warning
    assert "folder of the cache" in warning


def test_a_task_starts_no_tasks_of_its_own_which_could_wait_for_its_cpu():
    with worker_processes("ray"):
        kinds = set(map_in_order(ItsWorkers(), range(12)))
    assert kinds <= {"RayWorkers", "Workers", "NoneType"}
    run = ray.remote(ItsWorkers.__call__)
    assert ray.get(run.remote(ItsWorkers(), 0)) in ("Workers", "NoneType")


def prepare(path, cache, kind):
    data = DataSet(
        train={"file": Files(path=str(path))}, format=PromptCompletion(), split=HashSplit(validation=0.1, test=0.05)
    )
    stages = [data.stage(cache), *Preprocessing(steps=STEPS).stages(cache), data.stage_after_preprocessing()]
    store = Store(cache)
    if kind is None:
        return [store.result(stages[:number]) for number in range(1, len(stages) + 1)]
    with worker_processes(kind):
        return [store.result(stages[:number]) for number in range(1, len(stages) + 1)]


def test_every_stage_gives_the_same_bytes_and_audit(tmp_path, monkeypatch):
    path = write_rows(tmp_path)
    from instruct_lab.cache import ray_workers

    done = []
    handle = ray_workers._RayWorker.handle

    def count(self, number, has_failed, result):
        done.append(has_failed)
        handle(self, number, has_failed, result)

    monkeypatch.setattr(ray_workers._RayWorker, "handle", count)
    cluster = prepare(path, tmp_path / "cluster", "ray")
    assert len(done) > len(STEPS)
    assert not any(done), "tasks did parts of every stage"
    monkeypatch.setattr(parallel, "num_processes", lambda: 1)
    single = prepare(path, tmp_path / "single", None)
    for mine, theirs in zip(single, cluster, strict=True):
        assert json.dumps(audit_of(mine)) == json.dumps(audit_of(theirs)), mine.manifest["name"]
        for name in FILES.values():
            assert (mine.path / name).read_bytes() == (theirs.path / name).read_bytes(), (mine.manifest["name"], name)


def test_a_run_has_the_same_examples_and_the_same_identity(lab, train, monkeypatch):
    prints, hashes = [], []
    for number, kind in enumerate(("ray", "local")):
        monkeypatch.setenv("INSTRUCT_LAB_CACHE", str(lab / f"cache-{number}"))
        manifest = json.loads(
            (train("trainer.max_steps=1", f"preprocessing.workers={kind}") / "manifest.json").read_text()
        )
        prints.append(manifest["data_fingerprint"])
        hashes.append(manifest["config_hash"])
    assert len(set(prints)) == 1
    assert len(set(hashes)) == 1


def test_a_cluster_that_cannot_be_reached_and_a_kind_that_does_not_exist_are_refused(lab, tiny, capsys):
    assert cli.main(["train", *tiny, "preprocessing.workers=rai"]) == 2
    printed = capsys.readouterr()
    assert "preprocessing.workers" in printed.out + printed.err
