"""Tuning options with settings that fit the tiny models of the tests."""

import dataclasses

from instruct_lab.experiment.matrix import component_of

SMALL_SETTINGS = {"n_frequency": 50}
"""Settings of real models that tiny models have too few weights for, by field."""


def small_method(option):
    """The method of a tuning option, with small settings in the fields that it has."""
    method = component_of("tuning", option)
    fields = {field.name for field in dataclasses.fields(method)}
    return dataclasses.replace(method, **{name: value for name, value in SMALL_SETTINGS.items() if name in fields})
