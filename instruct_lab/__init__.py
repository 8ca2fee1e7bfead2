"""A configuration-driven experiment framework for instruction-tuning language models."""

import os
import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"] and sys.path[:1] == [os.getcwd()] and not sys.flags.safe_path:
    # `python -m instruct_lab` puts the working directory first, so any file in it would hide a library of its name.
    sys.path.pop(0)
    sys.path.extend([] if os.path.dirname(__path__[0]) != os.getcwd() else [os.getcwd()])  # a checkout
