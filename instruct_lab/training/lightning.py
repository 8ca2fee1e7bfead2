"""Import Lightning without the signal processing of scipy, which takes as long as half of torch.

torchmetrics, which Lightning imports, imports `scipy.signal` to add the name `hamming` for another library.
"""

from instruct_lab.late_imports import import_late

with import_late("scipy.signal", hamming=None):
    import pytorch_lightning  # noqa: F401
