"""The report on clusters of duplicates for the audit: how many have which size, and samples of the largest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class LargestClusters:
    """The largest clusters of duplicates so far, each with the text of one of its rows.

    A deduplication step calls `update` whenever it finds another row of a cluster.

    Args:
        most: number of clusters to keep.
    """

    def __init__(self, most: int = 5) -> None:
        self._most = most
        self._clusters: dict[int, tuple[int, str]] = {}

    def update(self, key: int, size: int, sample: object) -> None:
        """Record the new size of a cluster.

        Args:
            key: a number that identifies the cluster.
            size: its number of rows.
            sample: one of its rows, which is converted to text only if the cluster is among the largest.
        """
        if key not in self._clusters and len(self._clusters) == self._most:
            smallest = min(self._clusters, key=lambda known: self._clusters[known][0])
            if self._clusters[smallest][0] >= size:
                return
            del self._clusters[smallest]
        text = self._clusters[key][1] if key in self._clusters else str(sample)[:1000]
        self._clusters[key] = (size, text)

    def descending(self) -> list[tuple[int, str]]:
        """Return the sizes of the largest clusters, each with the text of one of its rows, in descending order."""
        return sorted(self._clusters.values(), key=lambda cluster: -cluster[0])


def cluster_report(sizes: Mapping[int, int], largest: Iterable[tuple[int, str]]) -> dict[str, object]:
    """Summarise clusters of duplicates for the audit.

    Args:
        sizes: number of clusters of each size, keyed by size (two or more rows).
        largest: for each of the largest clusters, its size and the text of one of its rows.
    """
    histogram: dict[str, int] = {}
    for size, count in sorted(sizes.items()):
        label = str(size) if size < 10 else f"{10 ** (len(str(size)) - 1):,} to {10 ** len(str(size)) - 1:,}"
        histogram[label] = histogram.get(label, 0) + count
    return {
        "num_clusters": sum(sizes.values()),
        "num_rows": sum(size * count for size, count in sizes.items()),
        "sizes": histogram,
        "largest": [{"rows": size, "sample": _shorten(text)} for size, text in largest],
    }


def _shorten(text: str, most: int = 200) -> str:
    text = text if len(text) <= most else text[:most] + "…"
    return text.encode("utf-8", "replace").decode()  # replaces unpaired surrogates, which cannot be encoded
