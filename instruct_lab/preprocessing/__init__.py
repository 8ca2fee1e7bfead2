"""Steps over conversations: clean, normalize, segment, redact, deduplicate, filter, decontaminate, sample, audit bias.

In: conversations by split. Out: conversations by split, and an audit of every row changed, dropped or added.
"""

from instruct_lab.preprocessing.base import Context, Step
from instruct_lab.preprocessing.bias.bias_audit import BiasAudit
from instruct_lab.preprocessing.bias.counterfactual import Counterfactual
from instruct_lab.preprocessing.duplicates.benchmarks import Benchmark, FileBenchmark, PackageBenchmark
from instruct_lab.preprocessing.duplicates.decontaminate import Decontaminate
from instruct_lab.preprocessing.duplicates.deduplicate import DeduplicateExact
from instruct_lab.preprocessing.duplicates.near_duplicates import NearDuplicates
from instruct_lab.preprocessing.filters.expression import Expression
from instruct_lab.preprocessing.filters.language import Language
from instruct_lab.preprocessing.filters.length import Length
from instruct_lab.preprocessing.filters.perplexity import Perplexity
from instruct_lab.preprocessing.filters.quality import Quality
from instruct_lab.preprocessing.filters.repetition import Repetition
from instruct_lab.preprocessing.filters.sample import Sample
from instruct_lab.preprocessing.preprocessing import Preprocessing
from instruct_lab.preprocessing.privacy.redact import Redact
from instruct_lab.preprocessing.text.clean import Clean
from instruct_lab.preprocessing.text.normalize import Normalize
from instruct_lab.preprocessing.text.segment import Segment

__all__ = [
    "Benchmark",
    "BiasAudit",
    "Clean",
    "Context",
    "Counterfactual",
    "Decontaminate",
    "DeduplicateExact",
    "Expression",
    "FileBenchmark",
    "Language",
    "Length",
    "NearDuplicates",
    "Normalize",
    "PackageBenchmark",
    "Perplexity",
    "Preprocessing",
    "Quality",
    "Redact",
    "Repetition",
    "Sample",
    "Segment",
    "Step",
]
