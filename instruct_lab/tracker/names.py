"""Name a run in trackers: its title, tags, group and chosen options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from instruct_lab.config.references import option_label
from instruct_lab.records.labels import label_typed
from instruct_lab.records.record import RunRecord
from instruct_lab.records.run_settings import RunSettings

TAG_GROUPS = ("experiments", "model", "data", "tuning", "objective", "optimizer", "trainer", "preprocessing")
"""Config groups whose chosen options become tags of a run; the run's settings in a tracker list those of all groups."""
MAX_LABEL = 80
"""Maximum number of characters of a title's first part, which lists settings; the run's id follows it."""


def title_of(record: RunRecord) -> str:
    """Return the title of a run: its settings and its id.

    The settings are those that the user typed or, in a sweep, those that vary. If there are none, the run's name
    replaces them.
    """
    settings = RunSettings.read(record)
    sweep = record.manifest.sweep
    if sweep is not None and sweep.values:
        seed = {"seed"} if sweep.seed is not None and "seed" in settings.typed else set[str]()
        settings = dataclasses.replace(settings, typed=frozenset(sweep.values) | seed)
    return f"{label_typed(settings).fit(MAX_LABEL) or record.name} {record.id}"


def options_of(choices: Mapping[str, Any]) -> dict[str, str]:
    """Return the chosen option of each config group as text; several options are joined by a plus sign."""
    return {group: _option_text(option) for group, option in choices.items()}


def tags_of(choices: Mapping[str, Any]) -> list[str]:
    """Return the tags of a run: the options of the groups in `TAG_GROUPS`, such as `tuning=lora`."""
    options = options_of(choices)
    return [f"{group}={option_label(group, options[group])}" for group in TAG_GROUPS if options.get(group)]


def group_of(record: RunRecord, choices: Mapping[str, Any]) -> str:
    """Return the group that trackers list a run under: its sweep's id, or else its study, or else its own name."""
    sweep = record.manifest.sweep
    return str((sweep and sweep.id) or _option_text(choices.get("experiments")) or record.name)


def _option_text(option: Any) -> str:
    return "+".join(map(str, option)) if isinstance(option, list) else str(option or "")
