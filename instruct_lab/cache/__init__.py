"""The data cache: worker processes compute results, which are stored under a hash of everything that they depend on.

Input: a chain of processing stages, each with everything that its result depends on. Output: a folder for each stage's
result, which is built only if the cache does not have it yet.
"""

from instruct_lab.cache.keys import describe
from instruct_lab.cache.parallel import map_in_order
from instruct_lab.cache.store import Entry, Stage, Store, chain_keys, link, select_entries
from instruct_lab.cache.worker_kinds import WorkerKind, worker_processes

__all__ = [
    "Entry",
    "Stage",
    "Store",
    "WorkerKind",
    "chain_keys",
    "describe",
    "link",
    "map_in_order",
    "select_entries",
    "worker_processes",
]
