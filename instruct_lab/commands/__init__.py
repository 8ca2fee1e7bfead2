"""The functions that run the commands, and the declarations of their arguments; one module for each family of commands.

Each function takes the parsed command line, prints text or JSON to standard output and returns the exit code. It
imports the packages that it needs only when it runs, so that `--help` loads no heavy library.
"""
