"""Choose the examples that a page shows with the runs' answers; the page's size limits their number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from instruct_lab.comparison.page.values import MAX_TEXT, finite, keys_of, limit_text, short
from instruct_lab.pages.render import script_json
from instruct_lab.records import PredictionLine
from instruct_lab.records.occurrences import Key, key_predictions
from instruct_lab.terminal import visible

PREDICTION_BYTES = 1_200_000


def predictions(runs: Sequence[list[PredictionLine]]) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Choose as many examples as fit on the page, and collect each run's answers to them with their scores.

    Args:
        runs: the lines of each run's `predictions.jsonl`.

    Returns:
        The chosen examples, keyed by split, and notes for the page about omitted examples and shortened texts. An
        example stores each distinct answer once, under `texts`; `before` and `after` contain indices into this list.
    """
    found: dict[str, dict[Key, list[PredictionLine | None]]] = {}
    for run, lines in enumerate(runs):
        for split, keyed in key_predictions(lines).items():
            examples = found.setdefault(split, {})
            for key, line in keyed.items():
                examples.setdefault(key, [None] * len(runs))[run] = line
    kept, notes, cut = {}, [], 0
    for split, by_key in found.items():
        left, chosen = PREDICTION_BYTES // len(found), []
        keys = list(by_key)
        for index in _by_importance(list(by_key.values())):
            example = _example(keys[index][0], by_key[keys[index]])
            left -= len(script_json(example).encode())  # its size on the page
            if left < 0:
                break
            cut += _is_cut(by_key[keys[index]])
            chosen.append((index, example))
        kept[visible(split)] = [example for _, example in sorted(chosen, key=lambda pair: pair[0])]
        if len(chosen) < len(by_key):
            notes.append(
                f"{len(chosen):,} of the {len(by_key):,} {split} examples are here: alternately the next in order and "
                "the one whose scores differ most between runs. predictions.jsonl of each run has all of them."
            )
    if cut:
        notes.append(f"Texts of more than {MAX_TEXT:,} characters are cut, in {cut:,} examples.")
    return kept, notes


def _by_importance(examples: Sequence[Sequence[PredictionLine | None]]) -> Iterable[int]:
    """Order the examples by the priority with which they are put on the page, and return their indices.

    Examples are taken alternately from two lists: one in the order of `examples`, and one sorted by how much the
    scores of the runs' answers to an example differ, largest difference first.
    """
    scored = [[line.scores for line in lines if line is not None] for lines in examples]
    widest: dict[str, float] = {}
    spread: list[dict[str, float]] = []
    for scores in scored:
        spread.append({})
        for name in keys_of(scores):
            found = [value for one in scores if (value := finite(one.get(name))) is not None]
            spread[-1] |= {name: max(found) - min(found)} if found else {}
        for name, width in spread[-1].items():
            widest[name] = max(widest.get(name, 0.0), width)

    def largest_difference(index: int) -> float:
        return max((width / widest[name] for name, width in spread[index].items() if widest[name]), default=0.0)

    ranked = sorted(range(len(examples)), key=largest_difference, reverse=True)
    return dict.fromkeys(index for pair in enumerate(ranked) for index in pair)


def _example(id_: str, lines: Sequence[PredictionLine | None]) -> dict[str, Any]:
    texts: dict[str, int] = {}

    def text_index(text: str | None) -> int | None:
        return None if text is None else texts.setdefault(limit_text(text), len(texts))

    known = [line for line in lines if line is not None]
    after = [text_index(line.prediction if line else None) for line in lines]
    before = [text_index(line.prediction_before if line else None) for line in lines]
    return {
        "id": visible(id_),
        "prompt": limit_text(known[0].prompt),
        "others": any(line.prompt != known[0].prompt for line in known),
        "references": [limit_text(reference) for reference in known[0].references],
        "texts": list(texts),
        "after": after,
        "before": before if any(entry is not None for entry in before) else None,
        "scores": {name: [_score(line, name) for line in lines] for name in keys_of(line.scores for line in known)},
    }


def _score(line: PredictionLine | None, name: str) -> float | int | None:
    return None if line is None else short(line.scores.get(name))


def _is_cut(lines: Sequence[PredictionLine | None]) -> bool:
    texts = [text or "" for line in lines if line for text in (line.prompt, line.prediction, line.prediction_before)]
    references = [text for line in lines if line for text in line.references]
    return any(len(str(text)) > MAX_TEXT for text in [*texts, *references])
