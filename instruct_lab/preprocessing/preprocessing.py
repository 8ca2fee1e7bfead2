"""The steps in order, over each split."""

from __future__ import annotations

from instruct_lab.config import Component, component
from instruct_lab.data import Audit, Conversation
from instruct_lab.preprocessing.base import Step


@component
class Preprocessing(Component):
    """Named steps, run in the order of the config over each split; null removes one."""

    steps: dict[str, Step | None]  # named steps, in order

    def apply(self, splits: dict[str, list[Conversation]], audit: Audit) -> dict[str, list[Conversation]]:
        """Run every step over every split that it names.

        Args:
            splits: conversations by split name.
            audit: counts rows in and out under the stage `preprocessing/<split>/<step>`, and what each step did.
        """
        done = {}
        for split, conversations in splits.items():
            for name, step in self.steps.items():
                if step is None or split not in step.splits:
                    continue
                stage = f"preprocessing/{split}/{name}"
                rows_in = len(conversations)
                conversations = list(step.apply(conversations, stage, audit))
                audit.rows(stage, rows_in, len(conversations))
            done[split] = conversations
        return done
