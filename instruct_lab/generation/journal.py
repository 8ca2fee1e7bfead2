"""A file of generated answers; with it, an evaluation that was killed can continue after its last decoded batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from instruct_lab import files


class AnswerJournal:
    """A file of generated answers, with one line for the answers of each batch.

    The batches of an evaluation depend only on its prompts and settings. An evaluation that is continued therefore
    decodes the same batches, and gives the same answers to the last bit as one that was never killed.

    Args:
        path: the file, which may hold the answers of an earlier process.
        fingerprint: text that identifies the prompts, the settings and the model; if the file has another fingerprint,
            its answers are removed.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self._known: dict[tuple[int, ...], list[list[int]]] = {}
        lines = files.read_lines(path)
        if lines and lines[0].get("fingerprint") == fingerprint:
            files.drop_torn_end(path)
            self._known = {tuple(line["indices"]): line["answers"] for line in lines[1:] if "answers" in line}
        else:
            files.write_atomically(path, [files.to_json({"fingerprint": fingerprint}) + "\n"])

    @property
    def num_answers(self) -> int:
        """The number of answers in the file."""
        return sum(map(len, self._known.values()))

    def read(self, indices: Sequence[int]) -> list[list[int]] | None:
        """Return the answers of a batch as token ids; `None` if the file does not have them.

        Args:
            indices: indices of the prompts of the batch.
        """
        return self._known.get(tuple(indices))

    def write(self, indices: Sequence[int], answers: Sequence[Sequence[int]]) -> None:
        """Append the answers of a batch to the file.

        Args:
            indices: indices of the prompts of the batch.
            answers: the token ids of each answer.
        """
        kept = [list(map(int, ids)) for ids in answers]
        files.append_text(self._path, files.to_json({"indices": list(indices), "answers": kept}) + "\n")
        self._known[tuple(indices)] = kept
