"""Data sources, which read rows; every row stores its file and line for error messages."""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
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

__getattr__ = names_on_demand(__name__)
