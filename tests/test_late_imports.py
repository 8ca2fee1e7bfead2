"""A module that a library imports and nobody uses is left out; whoever uses it gets the real one."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import instruct_lab
from instruct_lab.late_imports import import_late, initialize_late


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Write `unused`, which reports its import, and `library`, which imports it."""
    unused = tmp_path / "unused"
    unused.mkdir()
    (unused / "__init__.py").write_text("import builtins\nbuiltins.imports += 1\nvalue = 5\n__version__ = '1'\n")
    (unused / "part.py").write_text("inner = 6\n")
    (tmp_path / "library.py").write_text(
        "import unused\nhas = hasattr(unused, 'known')\ndef use(): return unused.value\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("builtins.imports", 0, raising=False)
    yield
    for name in ("unused", "unused.part", "library"):
        sys.modules.pop(name, None)


def num_imports():
    import builtins

    return builtins.imports


def test_the_module_is_imported_once_when_a_name_is_used(packages):
    with import_late("unused", known=None):
        import library
    assert (num_imports(), library.has, "unused" in sys.modules) == (0, True, False)
    assert (library.use(), library.use(), num_imports()) == (5, 5, 1)
    import unused

    assert (library.unused.value, unused.value, num_imports()) == (5, 5, 1)


@pytest.mark.parametrize("code", ["import unused.part", "from unused import part", "from unused import value"])
def test_other_imports_within_the_block_get_the_real_module(packages, code):
    with import_late("unused"):
        exec(code)
        assert sys.modules["unused"].value == 5
    assert sys.modules["unused"].value == 5
    assert num_imports() == 1


def test_searching_all_modules_imports_nothing(packages):
    import inspect

    with import_late("unused"):
        inspect.getmodule(compile("1", "no file", "eval"))
        assert not hasattr(sys.modules["unused"], "__wrapped__")
    assert num_imports() == 0


@pytest.mark.parametrize("name", ["no_such_module", "no_such_package.module", "json"])
def test_absent_and_imported_modules_are_left_alone(name):
    before = sys.modules.get(name)
    with import_late(name):
        assert sys.modules.get(name) is before
    assert sys.modules.get(name) is before


def test_a_package_is_initialized_once_when_a_name_is_used_that_no_member_gives(packages):
    initialize_late("unused", members={"inner": "part"}, known=7)
    import unused

    assert (unused.known, unused.inner, unused.part.inner, num_imports()) == (7, 6, 6, 0)
    from unused import value

    assert (value, unused.__version__, unused.inner, num_imports()) == (5, "1", 6, 1)
    assert type(unused) is type(sys)


def test_an_init_that_replaces_its_module_is_reached_through_both(packages, tmp_path):
    with (tmp_path / "unused" / "__init__.py").open("a") as file:
        file.write("import sys, types\nsys.modules[__name__] = new = types.ModuleType(__name__)\nnew.value = 8\n")
    initialize_late("unused", members={})
    late = sys.modules["unused"]
    assert (late.value, sys.modules["unused"].value, num_imports()) == (8, 8, 1)
    assert sys.modules["unused"] is not late
    sys.modules["unused"].other = 9
    assert late.other == 9
    with pytest.raises(AttributeError):
        _ = late.no_such_name


@pytest.mark.parametrize("name", ["no_such_name", "__wrapped__"])
def test_a_late_package_has_only_the_names_that_its_files_define(packages, name):
    initialize_late("unused", members={"inner": "part"})
    assert not hasattr(sys.modules["unused"], name)
    assert num_imports() == (not name.startswith("__"))


@pytest.mark.parametrize("name", ["no_such_module", "no_such_package.module", "json"])
def test_absent_and_imported_packages_are_not_replaced(name):
    before = sys.modules.get(name)
    initialize_late(name, members={})
    assert sys.modules.get(name) is before


PACKAGES = [
    package.name
    for package in pkgutil.walk_packages(instruct_lab.__path__, "instruct_lab.")
    if package.ispkg and "= names_on_demand(" in Path(package.module_finder.find_spec(package.name).origin).read_text()
]


def test_packages_export_the_names_that_they_import_on_demand():
    assert len(PACKAGES) > 20
    for package in map(importlib.import_module, PACKAGES):
        statements = ast.parse(Path(package.__file__).read_text()).body
        blocks = [node for block in statements if isinstance(block, ast.If) for node in block.body]
        names = {alias.name for node in blocks for alias in node.names}
        assert names
        own = [
            node for node in statements if isinstance(node, ast.ImportFrom) and node.module.startswith(package.__name__)
        ]
        at_once = {alias.name for node in own for alias in node.names}
        assert names | at_once == {name for name in package.__all__ if getattr(package, name) is not None}, package
        submodules = {module.name for module in pkgutil.iter_modules(package.__path__)}
        assert not names & submodules, f"an import of the module would replace the name in {package}"


@pytest.mark.parametrize("name", ["Lionn", "ast", "__wrapped__"])
def test_other_names_of_such_a_package_are_missing_as_usual(name):
    from instruct_lab import optimizer

    with pytest.raises(AttributeError, match=f"module 'instruct_lab.optimizer' has no attribute '{name}'"):
        getattr(optimizer, name)
    with pytest.raises(ImportError, match=name):
        exec(f"from instruct_lab.optimizer import {name}")


def test_a_name_imports_only_the_module_that_defines_it():
    code = (
        "import sys; from instruct_lab.optimizer import AdamW\n"
        "import instruct_lab.optimizer as package\n"
        "print(AdamW is package.AdamW, AdamW.__module__, package.__name__ + '.matrix_optimizers' in sys.modules)\n"
        "print(package.Muon.__module__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "True instruct_lab.optimizer.optimizers False",
        "instruct_lab.optimizer.matrix_optimizers",
    ]


@pytest.mark.slow
def test_all_names_can_be_imported_at_once():
    code = (
        "import sys, instruct_lab.tuning, instruct_lab.data\n"
        "from instruct_lab.late_imports import import_all_names\n"
        "modules = ['tuning.lora', 'data.mixture', 'data.sources.files', 'data.formats.preference', 'metrics']\n"
        "for _ in range(2):\n"
        "    print([f'instruct_lab.{module}' in sys.modules for module in modules])\n"
        "    import_all_names()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str([False] * 5), str([True] * 4 + [False])]


@pytest.mark.slow
def test_a_run_imports_only_libraries_that_it_uses(tmp_path):
    unused = ["bitsandbytes", "scipy.signal", "torchmetrics.text", "wandb", "mlflow", "optuna", "ray", "torchvision"]
    code = (
        "import sys; from instruct_lab.cli import main\n"
        "code = main('train experiments=dry_run trainer.max_steps=1 tracker=none'.split())\n"
        f"print(code, [name for name in {unused} if name in sys.modules])\n"
        "models = sys.modules['transformers.models']; print('LlamaModel' in vars(models))\n"
        "from transformers.models import LlamaModel; import transformers\n"
        "print(models.LlamaModel is transformers.LlamaModel is transformers.models.LlamaModel)\n"
        "import scipy.signal; print(len(scipy.signal.windows.hamming(3)))\n"
        "import scipy.optimize; print(round(scipy.optimize.minimize_scalar(abs).fun, 3))\n"
        "print(scipy.optimize.linear_sum_assignment([[1, 0], [0, 1]])[1])\n"
        "import torchmetrics.text, pytorch_lightning.core.module as module\n"
        "print(issubclass(torchmetrics.text.BLEUScore, module.Metric), module.Metric is torchmetrics.Metric)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-7:] == ["0 []", "False", "True", "3", "0.0", "[1 0]", "True True"]
