"""Processor time of short commands, of many checked configs, and of a tiny run until its first step has ended.

    python tests/benchmarks/startup.py [REPETITIONS]

Each figure is the smallest of several (default: 5), since other processes only ever add to it. The run is compared with
the import of torch and of transformers' class of its model. Modules are compiled before, as `pip install` does, and one
thread computes, because threads that wait for one another count as busy.
"""

import os
import subprocess
import sys
import tempfile

COMMANDS = ["--help", "list", "list optimizer", "show", "check", "check experiments=dry_run"]
POINTS = "check -m optimizer.lr=range(1,1001) trainer.max_steps=1"
RUN = "train experiments=dry_run trainer.max_steps=1 evaluation.before=false evaluation.splits=[] tracker=none"
IMPORT = "import torch, transformers"
IMPORT_MODEL = f"{IMPORT}; transformers.LlamaForCausalLM"


def seconds(repetitions, *arguments):
    """The smallest processor time of a Python process with these arguments."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    found = []
    for _ in range(repetitions):
        before = os.times()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True, env=environment)
        after = os.times()
        found.append(sum(after[2:4]) - sum(before[2:4]))
    return min(found)


def run_first_step():
    """Run a tiny run until its first optimizer step has ended, and end the process there."""
    from instruct_lab.cli import main
    from instruct_lab.collector import collect_rarely

    collect_rarely()  # as the command line does before it imports the following
    import instruct_lab.training.run  # noqa: F401
    from instruct_lab.training.module import TuningModule

    step = TuningModule.optimizer_step

    def last_step(self, *given, **named):
        step(self, *given, **named)
        os._exit(0)

    TuningModule.optimizer_step = last_step
    main(RUN.split())


def main():
    """Print every figure."""
    if sys.argv[1:] == ["--first-step"]:
        run_first_step()
        sys.exit("no step was reached")
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    here = os.path.abspath(__file__)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        seconds(1, "-m", "instruct_lab", "check")  # compiles the modules
        for command in COMMANDS:
            print(f"{seconds(repetitions, '-m', 'instruct_lab', *command.split()):5.2f} s  {command}", flush=True)
        print(f"{seconds(1, '-m', 'instruct_lab', *POINTS.split()):5.2f} s  {POINTS}", flush=True)
        bare = seconds(repetitions, "-c", IMPORT)
        print(f"{bare:5.2f} s  {IMPORT}", flush=True)
        print(f"{seconds(repetitions, '-c', IMPORT_MODEL):5.2f} s  {IMPORT_MODEL}", flush=True)
        step = seconds(repetitions, here, "--first-step")
        print(f"{step:5.2f} s  to the end of the first step of {RUN}: {step / bare:.2f} times the import", flush=True)


if __name__ == "__main__":
    main()
