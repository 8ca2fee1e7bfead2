"""What each command does, one module a family: configs, runs, sweeps, compare, use, data, cache.

In: the parsed command line. Out: text or JSON on standard output, and the exit code. What a command needs is imported
when it runs, so that `--help` and completion load nothing.
"""
