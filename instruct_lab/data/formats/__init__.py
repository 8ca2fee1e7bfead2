"""Formats, which convert each row of a data source to one or more conversations."""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.data.formats.base import Format
    from instruct_lab.data.formats.chat import Messages, ShareGPT
    from instruct_lab.data.formats.plain_text import PlainText
    from instruct_lab.data.formats.preference import Preference
    from instruct_lab.data.formats.single_turn import Alpaca, Columns, PromptCompletion
    from instruct_lab.data.formats.tasks import TaskFile
    from instruct_lab.data.formats.templated import Templates
    from instruct_lab.data.formats.unpaired_preference import UnpairedPreference

__all__ = [
    "Alpaca",
    "Columns",
    "Format",
    "Messages",
    "PlainText",
    "Preference",
    "PromptCompletion",
    "ShareGPT",
    "TaskFile",
    "Templates",
    "UnpairedPreference",
]

__getattr__ = names_on_demand(__name__)
