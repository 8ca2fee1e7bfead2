"""Convert configs of LLaMA-Factory, axolotl and TRL into studies, which are configs of this framework.

Input: a YAML file or the arguments of a training script. Output: the files of a study, and for each setting, a row that
says how it was converted, or that it has no equivalent and what happens instead. Each tool has a module with a table
that says how each of its settings is converted.
"""

from instruct_lab.conversion.engine import Converted, convert
from instruct_lab.conversion.reading import TOOLS, Source, read_source
from instruct_lab.conversion.study import write_study

__all__ = ["TOOLS", "Converted", "Source", "convert", "read_source", "write_study"]
