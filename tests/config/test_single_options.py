"""A single option is composed as Hydra composes it, although most option files are read without Hydra."""

import warnings

import hydra
import pytest
from omegaconf import OmegaConf

from instruct_lab.config.compose import compose_option_tree, initialized_hydra
from instruct_lab.config.options import GROUPS, STUDIES, options
from instruct_lab.errors import ConfigError

SHIPPED = [
    pytest.param(group, option.name, id=f"{group}={option.name}")
    for group in GROUPS
    if group != STUDIES
    for option in {id(one): one for one in (options(group)[0], options(group)[-1])}.values()
]
OWN = {
    "values": "a: 1e-3\nb: ???\nc: ${tuning.a}\nd: [1, {e: null}]\nf: 0x10\ng: 2026-01-01\nh: on\n",
    "at_root": "# @package _global_\nmodel: {x: 1}\ntuning:\n  y: ${model.x}\n",
    "elsewhere": "# a comment\n# @package model.tokenizer\nx: [1]\n",
    "by_its_group": "# @package _group_.deeper\nx: 1\n",
    "with_others": "defaults: [values, _self_]\na: 2\n",
    "of_hydra": "# @package _global_\nhydra: {job: {name: x}}\ny: 2\n",
    "empty": "{}\n",
}


def by_hydra(group, option):
    with initialized_hydra(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return OmegaConf.to_container(hydra.compose(f"{group}/{option}"))


@pytest.mark.parametrize(("group", "option"), SHIPPED)
def test_a_shipped_option_is_composed_as_by_hydra(group, option):
    assert repr(compose_option_tree(group, option)) == repr(by_hydra(group, option))


@pytest.mark.parametrize("option", OWN)
def test_an_own_option_is_composed_as_by_hydra(option, tmp_path, monkeypatch):
    folder = tmp_path / "conf" / "tuning"
    folder.mkdir(parents=True)
    for name, text in OWN.items():
        (folder / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert repr(compose_option_tree("tuning", option)) == repr(by_hydra("tuning", option))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a: [1\n", "not valid YAML"), ("- 1\n", "a list"), ("defaults: [absent]\n", "absent"), ("a: 1\na: 2\n", "a")],
)
def test_an_own_option_that_is_wrong_is_refused_with_hydras_reason(text, reason, tmp_path, monkeypatch):
    (tmp_path / "conf" / "tuning").mkdir(parents=True)
    (tmp_path / "conf" / "tuning" / "wrong.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"(?i){reason}"):
        compose_option_tree("tuning", "wrong")


def test_an_option_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="absent"):
        compose_option_tree("tuning", "absent")
