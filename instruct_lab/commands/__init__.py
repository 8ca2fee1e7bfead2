"""The functions that run the commands, one module for each family: configs, runs, sweeps, compare, use, data, cache.

In: the parsed command line. Out: text or JSON on standard output, and the exit code. A command imports its packages
when it runs, so that `--help` loads no heavy library.
"""
