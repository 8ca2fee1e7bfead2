"""Processes that torchrun or `srun` has started share one run, and take as many devices as there are processes."""

import json
import os
import socket
import subprocess
import sys

import pytest
from support.records import newest_run

from instruct_lab import cli
from instruct_lab.launch import Launch, external_launch, is_first_process
from instruct_lab.training.processes import sizes_of_launch

SHORT = [
    *("trainer.max_steps=2", "trainer.accelerator=cpu", "evaluation.before=false", "evaluation.baselines=false"),
    *("evaluation.during_examples=0", "evaluation.max_examples=2", "metrics=perplexity"),
]
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "9", "LOCAL_RANK": "1", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}
SRUN = {
    "SLURM_NTASKS": "16",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS_PER_NODE": "8",
}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_as_torchrun(arguments):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
    return [subprocess.Popen([*launcher, str(free_port()), "-m", "instruct_lab", *arguments], stderr=subprocess.PIPE)]


def start_as_srun(arguments):
    """Start two tasks with the variables that `srun` sets."""
    common = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
    common |= {"SLURM_JOB_ID": "7", "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": str(free_port())}
    variables = [{**os.environ, **common, "SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in "01"]
    command = [sys.executable, "-m", "instruct_lab", *arguments]
    return [subprocess.Popen(command, env=one, stderr=subprocess.PIPE) for one in variables]


@pytest.mark.slow
@pytest.mark.parametrize(("start", "trainer"), [(start_as_torchrun, "ddp"), (start_as_srun, "fsdp")])
def test_processes_started_by_another_program_share_a_run(lab, tiny, start, trainer):
    processes = start(["train", *tiny, *SHORT, f"trainer={trainer}", "batching.batch_size=3"])
    outputs = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs[0][-3000:]
    [record] = [path.parent for path in lab.glob("runs/*/*/manifest.json")]
    manifest = json.loads((record / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["num_devices"] == 2
    assert cli.main(["train", *tiny, *SHORT, "batching.batch_size=6"]) == 0
    losses = [
        [line["train/loss"] for line in map(json.loads, (path / "metrics.jsonl").read_text().splitlines())]
        for path in (record, newest_run(lab))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (TORCHRUN, Launch("torchrun", 9, 16, 2)),
        (SRUN, Launch("srun", 9, 16, 2)),
        ({**SRUN, "SLURM_JOB_NAME": "bash"}, None),
        ({**SRUN, "SLURM_NTASKS": "1"}, None),  # as of a sweep's trial
        ({"LOCAL_RANK": "1"}, None),
    ],
)
def test_a_launch_is_recognized_by_its_variables(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert external_launch() == expected
    assert is_first_process() == ("LOCAL_RANK" not in variables and expected is None)
    if expected is not None:
        sizes = sizes_of_launch({"devices": "auto", "num_nodes": -1})
        assert (sizes["devices"], sizes["num_nodes"]) == (8, 2)
        assert "devices" not in sizes_of_launch({"devices": 4})


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"TORCHELASTIC_RUN_ID": "x"}, "WORLD_SIZE is not set"),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "-1"}, "RANK is '-1'"),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "0", "RANK": "0"}, "LOCAL_WORLD_SIZE"),
        ({"SLURM_NTASKS": "many"}, "SLURM_NTASKS is 'many'"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": ""}, "SLURM_PROCID is ''"),
    ],
)
def test_variables_that_are_no_numbers_are_refused(monkeypatch, capsys, variables, named):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["train", "model=tiny_random"]) == 2
    (*_, error) = capsys.readouterr().err.splitlines()
    assert named in error


def test_several_nodes_without_a_launcher_are_refused(lab, tiny, capsys):
    assert cli.main(["train", *tiny, "trainer=multi_node", "trainer.accelerator=cpu"]) == 2
    assert "torchrun or srun" in " ".join(capsys.readouterr().err.split())
    assert not list(lab.glob("runs/**/manifest.json"))
