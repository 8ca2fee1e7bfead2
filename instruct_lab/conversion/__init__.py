"""Convert configs of LLaMA-Factory, axolotl and TRL into studies.

In: a YAML file or the arguments of a training script. Out: the files of a study, and for each setting, a row that says
what it became, or that it has no equivalent and what happens instead. Each tool is a module with a table of its
settings.
"""

from instruct_lab.conversion.engine import Converted, convert
from instruct_lab.conversion.reading import TOOLS, Source, read_source
from instruct_lab.conversion.study import write_study

__all__ = ["TOOLS", "Converted", "Source", "convert", "read_source", "write_study"]
