"""Checks for pages that are served only on this machine: the port is free, and a request names this machine as host."""

from __future__ import annotations

import re
import socket

from instruct_lab.errors import InstructLabError, one_line

LOOPBACK = "127.0.0.1"
"""The address on which pages are served; only programs on this machine can reach it."""


def check_port(port: int) -> None:
    """Check that a page can be served on a port, so that an error is raised before anything is loaded.

    Raises:
        InstructLabError: the port is taken or not allowed.
    """
    try:
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((LOOPBACK, port))
    except (OSError, OverflowError) as error:
        raise port_error(str(port), error) from error


def port_error(tried: str, error: OSError | OverflowError) -> InstructLabError:
    """Return the error for ports on which no page can be served.

    Args:
        tried: the port, or the first and the last of several ports.
        error: the error that was raised for the last port.
    """
    reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
    what = f"The page cannot be served on port {tried} ({reason[0].lower()}{reason[1:]})"
    return InstructLabError(what, where=LOOPBACK, do="choose another --port, or end the program that uses it")


def is_loopback(hosts: list[bytes]) -> bool:
    """Whether the header `Host` occurs once and names this machine, with or without a port.

    A malicious web page can make its own host name resolve to 127.0.0.1 (DNS rebinding). The browser then sends the
    page's requests to the local server, but the header still holds the page's host.
    """
    found = re.fullmatch(rb"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", hosts[0], re.IGNORECASE) if hosts else None
    return len(hosts) == 1 and found is not None
