"""The sweep's Optuna study, in an SQLite file that several processes of one machine may write."""

from __future__ import annotations

from typing import Any

BUSY_SECONDS = 120


def open_storage(url: str) -> Any:
    """Optuna's storage behind a URL; waits for other writers instead of failing."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}})
