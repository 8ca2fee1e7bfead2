"""The entry point of `python -m instruct_lab`, which runs the command line."""

import sys

from instruct_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
