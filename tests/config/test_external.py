"""Classes of other libraries are checked from their source, without importing them."""

import inspect
import subprocess
import sys

import pytest

from instruct_lab.config.external import ExternalClass, find_class, public_names, signature_of
from instruct_lab.errors import InstructLabError

CLASSES = [
    "pytorch_lightning.Trainer",
    "pytorch_lightning.callbacks.EarlyStopping",
    "pytorch_lightning.callbacks.ModelCheckpoint",
    "pytorch_lightning.loggers.CSVLogger",
    "pytorch_lightning.loggers.TensorBoardLogger",
    "pytorch_lightning.loggers.MLFlowLogger",
    "torch.optim.AdamW",
]


@pytest.mark.parametrize("target", CLASSES)
def test_the_signature_read_from_source_is_that_of_the_imported_class(target):
    module, _, name = target.rpartition(".")
    imported = getattr(__import__(module, fromlist=[name]), name)
    parameters = list(inspect.signature(inspect.unwrap(imported.__init__)).parameters.values())[1:]
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    signature = signature_of(*find_class(target))
    assert list(signature.types) == [p.name for p in named]
    assert signature.required == {p.name for p in named if p.default is p.empty}
    assert signature.takes_any == any(p.kind == p.VAR_KEYWORD for p in parameters)


def test_nothing_is_imported_to_read_a_signature():
    code = (
        "import sys\nfrom instruct_lab.config.external import find_class, signature_of\n"
        "signature_of(*find_class('pytorch_lightning.Trainer'))\n"
        "print('torch' in sys.modules, 'pytorch_lightning' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("target", ["pytorch_lightning.Trainr", "no_such_package.Thing", "Trainer", "torch.nothing.X"])
def test_a_class_that_is_not_there_is_not_found(target):
    assert find_class(target) is None


def test_public_names_are_those_that_the_module_re_exports():
    assert "Trainer" in public_names("pytorch_lightning")


def test_building_replaces_names_in_braces():
    external = ExternalClass("support.fake_loggers.Plain", {"failing": "{run_path}/x log", "hangs": 3})
    built = external.build(run={"run_path": "here"})
    assert (built.failing, built.hangs) == (["here/x", "log"], 3)


def test_classes_inside_arguments_are_built_too():
    nested = ExternalClass("support.fake_loggers.Plain", {"hangs": 2})
    built = ExternalClass("support.fake_loggers.Plain", {"hangs": {"deep": [nested]}}).build()
    assert built.hangs["deep"][0].hangs == 2


def test_a_class_that_is_not_allowed_is_not_built():
    with pytest.raises(InstructLabError, match=r"--allow timeit\.Timer"):
        ExternalClass("timeit.Timer", {}).build()
