"""Run the command line as `python -m instruct_lab`."""

import sys

from instruct_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
