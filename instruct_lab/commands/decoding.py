"""The command-line options that replace the decoding settings of a run."""

from __future__ import annotations

import argparse

from instruct_lab.chat.decoding import Decoding


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that replace the run's decoding settings."""
    longest = "longest answer, in tokens (default: as in the run: generation.max_new_tokens)"
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help=longest)
    temperature = "sample; below 1 favours likely tokens, 0 always takes the most likely one (default: as in the run)"
    parser.add_argument("--temperature", type=float, metavar="T", help=temperature)
    top_p = "sample only from the smallest set of tokens with this probability (default: as in the run)"
    parser.add_argument("--top-p", type=float, metavar="P", help=top_p)
    parser.add_argument("--seed", type=int, metavar="N", help="random seed of a sampled answer (default: the run's)")


def decoding_of(parsed: argparse.Namespace) -> Decoding:
    """Return the decoding settings that are given on the command line."""
    return Decoding(
        max_new_tokens=parsed.max_new_tokens, temperature=parsed.temperature, top_p=parsed.top_p, seed=parsed.seed
    )
