"""Padding and collation."""

from pathlib import Path

import pytest
import torch
import yaml
from support.chat_tokenizers import byte_level, conversation

from instruct_lab.batching import IGNORED, Batch, Example, Padded
from instruct_lab.data import Audit
from instruct_lab.template import ChatTemplate

EXAMPLES = [Example([5, 2, 2], [IGNORED, 2, 2]), Example([7], [IGNORED])]


def test_padding_is_on_the_right_and_masked_by_length_not_by_id():
    batch = Padded().collate(EXAMPLES, pad_token_id=2)
    assert batch.input_ids.tolist() == [[5, 2, 2], [7, 2, 2]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.labels.tolist() == [[IGNORED, 2, 2], [IGNORED] * 3]
    assert {batch.input_ids.dtype, batch.attention_mask.dtype, batch.labels.dtype} == {torch.int64}


def test_the_end_of_turn_token_stays_attended_and_trained_if_it_is_the_pad_token():
    tokenizer = byte_level("chatml")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    found = [conversation("Hello", "two"), conversation("Hello", "a much longer answer than that")]
    examples = list(Padded().encode(found, ChatTemplate(), tokenizer, Audit(), "train"))
    batch = Padded().collate(examples, tokenizer.pad_token_id)
    assert batch.attention_mask.sum(1).tolist() == [len(example.input_ids) for example in examples]
    assert ((batch.labels == tokenizer.eos_token_id).sum(1) == 1).all()


def test_a_tokenizer_without_a_pad_token_pads_all_the_same():
    assert Padded().collate(EXAMPLES, None).input_ids.tolist()[1] == [7, 0, 0]


@pytest.mark.parametrize(("multiple", "width"), [(1, 3), (2, 4), (8, 8)])
def test_width_is_padded_up_to_a_multiple(multiple, width):
    batch = Padded(pad_to_multiple_of=multiple).collate(EXAMPLES, 0)
    assert batch.labels.shape == batch.input_ids.shape == (2, width)
    assert batch.attention_mask.sum().item() == 4


def test_lightning_moves_and_converts_a_batch():
    from lightning_fabric.plugins.precision import MixedPrecision, Precision
    from lightning_fabric.utilities.apply_func import move_data_to_device

    batch = Padded().collate(EXAMPLES, 0)
    for moved in (
        move_data_to_device(batch, "cpu"),
        Precision().convert_input(batch),
        MixedPrecision("bf16-mixed", "cpu").convert_input(batch),
    ):
        assert isinstance(moved, Batch)
        assert moved.input_ids.dtype == torch.int64


def test_the_option_file_builds_with_its_defaults():
    path = Path(__file__).parents[2] / "conf" / "batching" / "padded.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert settings.pop("_target_") == "instruct_lab.batching.Padded"
    assert Padded(**settings) == Padded()


@pytest.mark.parametrize(
    "settings",
    [{"batch_size": 0}, {"max_tokens": 1}, {"overlong": "cut"}, {"pad_to_multiple_of": 0}, {"batch_size": "8"}],
)
def test_settings_out_of_range_are_refused_by_name(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Padded(**settings)
