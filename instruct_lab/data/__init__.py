"""A data set: where rows come from and how a row becomes a `Conversation`.

In: files, Hub data sets, pinned package assets, the running Python's standard library. Out: conversations by split,
the SHA-256 of every input, and an audit of every row left out.
"""

from instruct_lab.data.audit import Audit, Tally
from instruct_lab.data.base import Data, DataSplits, Input
from instruct_lab.data.baselines import Baseline, Copy, NearestExample
from instruct_lab.data.conversation import Conversation, Message, Role, normalized
from instruct_lab.data.dataset import DataSet
from instruct_lab.data.formats.base import Format
from instruct_lab.data.formats.chat import Messages, ShareGPT
from instruct_lab.data.formats.plain_text import PlainText, TextFiles
from instruct_lab.data.formats.preference import Preference
from instruct_lab.data.formats.single_turn import Alpaca, Columns, PromptCompletion
from instruct_lab.data.formats.tasks import NaturalInstructions, TaskFile
from instruct_lab.data.formats.templated import Templates
from instruct_lab.data.mixture import Mixture
from instruct_lab.data.sources.base import BrokenRow, Row, Source
from instruct_lab.data.sources.catalogues import Catalogues
from instruct_lab.data.sources.files import Files
from instruct_lab.data.sources.hub import HubDataSet
from instruct_lab.data.sources.package_rows import Dialogues, PackageRows
from instruct_lab.data.sources.ruff_rules import RuffRules
from instruct_lab.data.sources.standard_library import StandardLibrary
from instruct_lab.data.split import HashSplit, SplitName

__all__ = [
    "Alpaca",
    "Audit",
    "Baseline",
    "BrokenRow",
    "Catalogues",
    "Columns",
    "Conversation",
    "Copy",
    "Data",
    "DataSet",
    "DataSplits",
    "Dialogues",
    "Files",
    "Format",
    "HashSplit",
    "HubDataSet",
    "Input",
    "Message",
    "Messages",
    "Mixture",
    "NaturalInstructions",
    "NearestExample",
    "PackageRows",
    "PlainText",
    "Preference",
    "PromptCompletion",
    "Role",
    "Row",
    "RuffRules",
    "ShareGPT",
    "Source",
    "SplitName",
    "StandardLibrary",
    "Tally",
    "TaskFile",
    "Templates",
    "TextFiles",
    "normalized",
]
