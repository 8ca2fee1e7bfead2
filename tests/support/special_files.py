"""Things that stand where a file is expected, and that block or never end when they are read."""

import contextlib
import os
import socket

SPECIAL = ["fifo", "device", "folder", "dangling", "loop", "socket"]


def make_special(path, kind):
    """Create a named pipe, a link to a device, a folder, a link to nowhere or to itself, or a socket."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as server:  # the name of a socket is short
            server.bind(path.name)
