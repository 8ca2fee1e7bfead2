"""Steps that select rows by their text or at random.

Input: conversations. Output: the conversations to keep; the audit counts dropped conversations by reason.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.preprocessing.filters.expression import Expression
    from instruct_lab.preprocessing.filters.language import Language
    from instruct_lab.preprocessing.filters.length import Length
    from instruct_lab.preprocessing.filters.perplexity_filter import PerplexityFilter
    from instruct_lab.preprocessing.filters.quality import Quality
    from instruct_lab.preprocessing.filters.repetition import Repetition
    from instruct_lab.preprocessing.filters.sample import Sample

__all__ = ["Expression", "Language", "Length", "PerplexityFilter", "Quality", "Repetition", "Sample"]

__getattr__ = names_on_demand(__name__)
