"""Store a sweep's Optuna study in an SQLite file to which several processes of one machine may write."""

from __future__ import annotations

from typing import Any

STUDY_NAME = "sweep"
BUSY_SECONDS = 120


def open_storage(url: str) -> Any:
    """Open Optuna's storage at a URL; while another process writes to it, operations wait instead of failing.

    Optuna's messages are silenced unless they are errors, because messages, such as those about new trials, would be
    printed in the middle of the sweep's table.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}})
