"""General texts and questions of general knowledge, which show what a model has forgotten.

Input: the texts and questions in `items.jsonl`, and a model. Output: the model's scores on each of them. There are 48
short texts of 16 kinds, from history and cooking to code and Chinese. With each text comes a question of general
knowledge with four choices. They were written for this package and have its licence (Apache-2.0), so they are available
without a network and are the same for every run.
"""

from instruct_lab.metrics.general.forgetting import Forgetting
from instruct_lab.metrics.general.items import GeneralItem, read_items

__all__ = ["Forgetting", "GeneralItem", "read_items"]
