"""A faster import of Lightning: most of torchmetrics, whose import is slow, is imported only if it is used.

Lightning needs only two classes of torchmetrics, but importing these runs the package's `__init__`, which imports all
metrics and `scipy.signal`. With this module, `__init__` runs only when another name of torchmetrics is used. The time
that this saves is about a quarter of the time of importing torch.
"""

import importlib
import importlib.metadata
import logging

from instruct_lab.late_imports import initialize_late

initialize_late(
    "torchmetrics",
    members={"Metric": "metric", "MetricCollection": "collections"},
    __version__=importlib.metadata.version("torchmetrics"),
    _logger=logging.getLogger("torchmetrics"),
)
importlib.import_module("torchmetrics.utilities")  # before `torchmetrics.metric`: they import each other
importlib.import_module("pytorch_lightning")
