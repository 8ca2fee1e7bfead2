"""Overrides that cannot be composed are found and reported in their order, and all others are applied."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from instruct_lab.config.compose import _compose_usable
from instruct_lab.config.quoting import parse_or_none
from instruct_lab.errors import ConfigError


@pytest.mark.slow
@given(st.lists(st.booleans(), max_size=12))
def test_every_fault_is_found_with_few_compositions(is_faulty):
    overrides = [parse_or_none(f"key{number}={number}") for number in range(len(is_faulty))]
    faulty = {f"key{number}" for number, is_bad in enumerate(is_faulty) if is_bad}
    loads = []

    def load(given):
        loads.append(given)
        for override in given:
            if override.key_or_group in faulty:
                raise OmegaConfBaseException(f"{override.key_or_group} is faulty")
        return OmegaConf.create({})

    problems = []
    _, applied = _compose_usable(overrides, problems, load)
    assert [problem.key for problem in problems] == [key for key in map(_key, overrides) if key in faulty]
    assert [problem.reason for problem in problems] == [f"{problem.key} is faulty" for problem in problems]
    assert [*map(_key, applied)] == [key for key in map(_key, overrides) if key not in faulty]
    assert len(loads) <= 1 + len(faulty) * (1 + math.ceil(math.log2(max(1, len(overrides)))))


def _key(override):
    return override.key_or_group


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_config_that_does_not_compose_by_itself_is_reported_beside_every_override(count):
    def load(given):
        raise OmegaConfBaseException("train.yaml is faulty")

    with pytest.raises(ConfigError) as raised:
        _compose_usable([parse_or_none(f"key{number}=1") for number in range(count)], [], load)
    assert [problem.key for problem in raised.value.problems] == [*(f"key{n}" for n in range(count)), "train"]


@pytest.mark.parametrize(
    ("overrides", "kept"), [("abX", "ab"), ("aXb", "ab"), ("Xab", "Xb"), ("Xa", "X"), ("cXbXa", "cXbX")]
)
def test_of_two_overrides_that_exclude_each_other_the_first_is_applied(overrides, kept):
    def load(given):
        if {"a", "X"} <= set(map(_key, given)):
            raise OmegaConfBaseException("a and X")
        return OmegaConf.create({})

    problems = []
    _, applied = _compose_usable([parse_or_none(f"{key}=1") for key in overrides], problems, load)
    assert ("".join(map(_key, applied)), len(problems)) == (kept, len(overrides) - len(kept))
