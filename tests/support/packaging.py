"""Build the package as it is published."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(target, folder, root=ROOT):
    """Build a wheel or a source distribution of a tree, and return its path."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built
