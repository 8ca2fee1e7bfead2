"""Store a sweep's Optuna study in an SQLite file to which several processes of one machine may write."""

from __future__ import annotations

from typing import Any

STUDY_NAME = "sweep"
BUSY_SECONDS = 120


def open_storage(url: str) -> Any:
    """Open the database of a sweep's Optuna study; while another process writes to it, operations wait.

    Optuna's log messages are silenced except for errors. Other messages, such as those about new trials, would be
    printed in the middle of the sweep's table.

    Args:
        url: URL of the database, such as `sqlite:///optuna.db`.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}})
