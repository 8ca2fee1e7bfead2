"""The packaged data and preprocessing options can be built."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from instruct_lab.config.build import build
from instruct_lab.config.compose import compose
from instruct_lab.data import Catalogues, DataSet, Files, HubDataSet, Mixture, NaturalInstructions, TextFiles
from instruct_lab.preprocessing import Preprocessing

CONF = Path(__file__).parents[2] / "conf"
DATA = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
PREPROCESSING = sorted(path.stem for path in (CONF / "preprocessing").glob("*.yaml"))


def build_option(group: str, option: str, **overrides):
    changed = [f"{group}.{key}={json.dumps(value)}" for key, value in overrides.items()]
    result = build(compose([f"{group}={option}", *changed]).config)
    return result.built[group]


def test_the_options_are_all_here() -> None:
    assert {"interface_fr", "stdlib_functions", "alpaca_hub", "dolly_hub"} < set(DATA)
    assert {"local_alpaca", "local_sharegpt", "local_messages", "local_prompt_completion", "local_columns"} < set(DATA)
    assert {"none", "standard"} <= set(PREPROCESSING)


@pytest.mark.slow
@pytest.mark.parametrize("option", [name for name in DATA if not name.startswith("local_")])
def test_a_data_option_is_a_data_set_without_problems(option) -> None:
    data = build_option("data", option)
    assert isinstance(data, DataSet | Mixture)
    assert not list(data.problems())


@pytest.mark.slow
@pytest.mark.parametrize("option", [name for name in DATA if name.startswith("local_")])
def test_a_local_option_asks_for_a_path(option, tmp_path) -> None:
    config = OmegaConf.load(CONF / "data" / f"{option}.yaml")
    ((name, source),) = config.train.items()
    assert OmegaConf.is_missing(source, "path")
    pattern = {"format.prompt": "{a}", "format.completion": "{b}"} if option == "local_columns" else {}
    data = build_option("data", option, **{f"train.{name}.path": str(tmp_path / "rows.jsonl"), **pattern})
    assert isinstance(data.train[name], Files | NaturalInstructions | TextFiles)


def test_the_interface_language_is_one_override() -> None:
    data = build_option("data", "interface_fr", language="zh_Hans")
    sources = [*data.train.values(), *data.test.values()]
    assert [source.language for source in sources if isinstance(source, Catalogues)] == ["zh_Hans"] * 3


@pytest.mark.parametrize("option", ["alpaca_hub", "dolly_hub"])
def test_hub_options_are_pinned_to_a_commit(option) -> None:
    source = build_option("data", option).train["hub"]
    assert isinstance(source, HubDataSet)
    assert len(source.revision) == 40


@pytest.mark.slow
@pytest.mark.parametrize("option", PREPROCESSING)
def test_a_preprocessing_option_is_built(option) -> None:
    assert isinstance(build_option("preprocessing", option), Preprocessing)


@pytest.mark.parametrize("path", sorted(CONF.glob("data/*.yaml")) + sorted(CONF.glob("preprocessing/*.yaml")), ids=str)
def test_an_option_file_begins_with_its_name(path) -> None:
    assert path.read_text().startswith(f"# {path.stem}: ")


def test_the_packages_load_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "datasets", "pyarrow", "numpy", "pandas", "babel", "peft"]
    code = (
        "import sys; import instruct_lab.assets, instruct_lab.data, instruct_lab.preprocessing;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
