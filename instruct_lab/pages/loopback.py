"""Check that a request to a local page names this machine as the host."""

from __future__ import annotations

import re

LOOPBACK = "127.0.0.1"
"""The address on which local pages are served."""


def is_loopback(hosts: list[bytes]) -> bool:
    """Whether the header `Host` occurs once and names this machine, with or without a port.

    A malicious web page can make its own host name resolve to 127.0.0.1 (DNS rebinding). The browser then sends the
    page's requests to the local server, but the header still holds the page's host.
    """
    found = re.fullmatch(rb"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", hosts[0], re.IGNORECASE) if hosts else None
    return len(hosts) == 1 and found is not None
