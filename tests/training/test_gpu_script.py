"""The script that measures training steps on a GPU runs to its end on a CPU."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
CASES = ("LoRA, padded", "LoRA, packed", "LoRA, Liger", "full, Cut Cross-Entropy", "full, checkpointing selective")


@pytest.fixture
def script(monkeypatch):
    specification = importlib.util.spec_from_file_location("gpu_steps", FOLDER / "gpu_steps.py")
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "gpu_steps", module)  # dataclasses look there
    specification.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_rehearsal_measures_or_refuses_every_case(script, monkeypatch, capsys):
    monkeypatch.setattr(script, "CASES", {name: script.CASES[name] for name in CASES})
    monkeypatch.setattr(sys, "argv", ["gpu_steps.py", "--cpu"])
    monkeypatch.setattr(script.compiling, "BACKEND", "aot_eager")
    assert script.main() == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| tiny")]
    assert [cells[1] for cells in rows] == list(CASES)
    for cells in rows:
        if "Liger" in cells[1] or "Cut" in cells[1]:
            assert "needs the package" in cells[2]
        else:
            assert float(cells[2].replace(",", "")) > 0


def test_without_a_gpu_only_the_rehearsal_starts(script, monkeypatch, capsys):
    monkeypatch.setattr(script.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_steps.py"])
    assert script.main() == 2
    assert "--cpu" in capsys.readouterr().err


def test_the_shell_script_is_valid_and_bounded():
    text = (FOLDER / "gpu.sh").read_text()
    assert subprocess.run(["bash", "-n", str(FOLDER / "gpu.sh")], check=False).returncode == 0
    assert "timeout --signal=INT 480" in text
