"""The functions that run the commands, and the declarations of their arguments; one module for each family of commands.

In: the parsed command line. Out: text or JSON on standard output, and the exit code. A command imports its packages
when it runs, so that `--help` loads no heavy library.
"""
