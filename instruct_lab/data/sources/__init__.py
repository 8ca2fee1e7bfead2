"""Sources: where rows come from; every row knows the file and line it was read from."""

from instruct_lab.data.sources.base import BrokenRow, Row, Source
from instruct_lab.data.sources.catalogues import Catalogues
from instruct_lab.data.sources.files import Files
from instruct_lab.data.sources.hub import HubDataSet
from instruct_lab.data.sources.package_rows import Dialogues, PackageRows
from instruct_lab.data.sources.ruff_rules import RuffRules
from instruct_lab.data.sources.standard_library import StandardLibrary
from instruct_lab.data.sources.task_files import NaturalInstructions
from instruct_lab.data.sources.text_files import TextFiles

__all__ = [
    "BrokenRow",
    "Catalogues",
    "Dialogues",
    "Files",
    "HubDataSet",
    "NaturalInstructions",
    "PackageRows",
    "Row",
    "RuffRules",
    "Source",
    "StandardLibrary",
    "TextFiles",
]
