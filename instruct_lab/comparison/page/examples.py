"""Runs' answers to the same examples, for a page: as many as fit, and which is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from instruct_lab.comparison.page.values import MAX_TEXT, finite, keys_of, short, shown_text
from instruct_lab.pages.format import visible
from instruct_lab.pages.render import script_json
from instruct_lab.records import PredictionLine

PREDICTION_BYTES = 1_200_000


def predictions(runs: Sequence[list[PredictionLine]]) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Split to examples, each with every run's answer and scores; equal answers are told once.

    Args:
        runs: the lines of each run's `predictions.jsonl`.
    """
    found: dict[str, dict[str, list[PredictionLine | None]]] = {}
    for place, lines in enumerate(runs):
        for line in lines:
            examples = found.setdefault(line.split, {})
            examples.setdefault(line.id, [None] * len(runs))[place] = line
    told, notes, cut = {}, [], 0
    for split, by_id in found.items():
        left, chosen = PREDICTION_BYTES // len(found), []
        for place in _in_turn(list(by_id.values())):
            one = list(by_id)[place]
            example = _example(one, by_id[one])
            left -= len(script_json(example).encode())  # as it will stand in the page
            if left < 0:
                break
            cut += _is_cut(by_id[one])
            chosen.append((place, example))
        told[visible(split)] = [example for _, example in sorted(chosen, key=lambda pair: pair[0])]
        if len(chosen) < len(by_id):
            notes.append(
                f"{len(chosen):,} of the {len(by_id):,} {split} examples are here: in turn the next in order and the "
                "next by how far the runs' scores differ. predictions.jsonl of each run has all of them."
            )
    if cut:
        notes.append(f"Texts of more than {MAX_TEXT:,} characters are cut, in {cut:,} examples.")
    return told, notes


def _in_turn(examples: Sequence[Sequence[PredictionLine | None]]) -> Iterable[int]:
    """Every place once: the next in order, then the next by how far the runs' scores differ, and so on."""
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

    def apart(place: int) -> float:
        return max((width / widest[name] for name, width in spread[place].items() if widest[name]), default=0.0)

    ranked = sorted(range(len(examples)), key=apart, reverse=True)
    return dict.fromkeys(place for pair in enumerate(ranked) for place in pair)


def _example(one: str, lines: Sequence[PredictionLine | None]) -> dict[str, Any]:
    texts: dict[str, int] = {}

    def place(line: PredictionLine | None, key: str) -> int | None:
        text = getattr(line, key, None)
        return None if text is None else texts.setdefault(shown_text(text), len(texts))

    told = [line for line in lines if line is not None]
    metrics = keys_of(line.scores for line in told)
    after, before = ([place(line, key) for line in lines] for key in ("prediction", "prediction_before"))
    return {
        "id": visible(one),
        "prompt": shown_text(told[0].prompt),
        "others": any(line.prompt != told[0].prompt for line in told),
        "references": [shown_text(reference) for reference in told[0].references],
        "texts": list(texts),
        "after": after,
        "before": before if any(entry is not None for entry in before) else None,
        "scores": {name: [_score(line, name) for line in lines] for name in metrics},
    }


def _score(line: PredictionLine | None, name: str) -> float | int | None:
    return None if line is None else short(line.scores.get(name))


def _is_cut(lines: Sequence[PredictionLine | None]) -> bool:
    texts = [text or "" for line in lines if line for text in (line.prompt, line.prediction, line.prediction_before)]
    references = [text for line in lines if line for text in line.references]
    return any(len(str(text)) > MAX_TEXT for text in [*texts, *references])
