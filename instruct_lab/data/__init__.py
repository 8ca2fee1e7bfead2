"""Data sets: `sources` read rows, and `formats` convert each row to a `Conversation`.

The input is files, data sets of the Hugging Face Hub, files in certain versions of Python packages, or the standard
library of the running Python. The output is the conversations of each split, the SHA-256 of every input, and an audit
that counts every dropped row.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.data.audit import Audit, Tally
    from instruct_lab.data.base import Data, Input
    from instruct_lab.data.baselines import Baseline, Copy, NearestExample
    from instruct_lab.data.conversation import Conversation, Message, Role, canonical_text, normalize_text
    from instruct_lab.data.dataset import DataSet
    from instruct_lab.data.formats import (
        Alpaca,
        Columns,
        Format,
        Messages,
        PlainText,
        Preference,
        PromptCompletion,
        ShareGPT,
        TaskFile,
        Templates,
        UnpairedPreference,
    )
    from instruct_lab.data.mixture import Mixture
    from instruct_lab.data.sources import (
        BrokenRow,
        Catalogues,
        Dialogues,
        Files,
        HubDataSet,
        NaturalInstructions,
        PackageRows,
        Row,
        RuffRules,
        Source,
        StandardLibrary,
        TextFiles,
    )
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
    "UnpairedPreference",
    "canonical_text",
    "normalize_text",
]

__getattr__ = names_on_demand(__name__)
