"""Loading a data set without preprocessing."""

from instruct_lab.cache import Store
from instruct_lab.data import Audit, Conversation, Data
from instruct_lab.data.base import tables
from instruct_lab.data.stages import audit_of


def load_splits(data: Data, cache_path, audit: Audit | None = None) -> dict[str, list[Conversation]]:
    """The conversations by split; the audit counts every row that is dropped."""
    entry = Store(cache_path).result([data.stage(cache_path)])
    if audit is not None:
        audit.merge(audit_of(entry))
    return tables(entry)
