"""Convert configs of LLaMA-Factory, axolotl and TRL into studies, which are configs of this framework.

The input is a YAML file of the other tool, or the command-line arguments of its training script. The output is the
files of a study, and a report with a row for each setting. The row says how the setting was converted, or that it has
no equivalent and what happens instead. For each tool, a module has a table of rules that convert the tool's settings.
"""

from instruct_lab.conversion.engine import Converted, convert
from instruct_lab.conversion.reading import TOOLS, Source, read_source
from instruct_lab.conversion.study import write_study

__all__ = ["TOOLS", "Converted", "Source", "convert", "read_source", "write_study"]
