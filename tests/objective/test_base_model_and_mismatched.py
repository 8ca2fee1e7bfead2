"""The base model that a tuned one is compared with, and prompts with the answers to other prompts."""

import torch

from instruct_lab.batching import IGNORED, Batch
from instruct_lab.experiment.matrix import component_of
from instruct_lab.model import Decoder, Random
from instruct_lab.objective import DPO
from instruct_lab.objective.log_probabilities import sequence_log_probabilities
from instruct_lab.objective.mismatched_answers import mismatch_answers
from instruct_lab.objective.preference import without_adapters
from instruct_lab.tuning import LoRA

IDS = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
LABELS = torch.tensor([[IGNORED, IGNORED, 5, 6, 7], [IGNORED, 9, 10, IGNORED, IGNORED]])


def test_the_base_model_is_read_without_dropout_in_training(tmp_path):
    settings = component_of("model", "tiny_random").weights.settings
    chosen = Decoder(weights=Random(settings={**settings, "attention_dropout": 0.5}))
    loaded = chosen.load(chosen.load_tokenizer(tmp_path), tmp_path)
    batch = Batch(IDS, MASK, LABELS, is_paired=True)
    with torch.no_grad():
        expected, _ = sequence_log_probabilities(loaded.model, batch)
    tuned = LoRA(r=2, dropout=0.5).apply(loaded).model.train()
    found = DPO(reference="adapters_off")._reference(tuned, batch)
    torch.testing.assert_close(found, expected.reshape(2, -1).T)
    assert all(module.training for module in tuned.modules())
    with without_adapters(tuned):
        assert not any(module.training for module in tuned.modules())


def test_a_decoder_reads_each_prompt_with_the_next_row_s_answer(tmp_path):
    chosen = component_of("model", "tiny_random")
    found = mismatch_answers(chosen.load(chosen.load_tokenizer(tmp_path), tmp_path).model, Batch(IDS, MASK, LABELS))
    assert found.input_ids.tolist() == [[3, 4, 9, 10], [8, 5, 6, 7]]
    assert found.labels.tolist() == [[IGNORED, IGNORED, 9, 10], [IGNORED, 5, 6, 7]]
    assert found.attention_mask.tolist() == [[1] * 4, [1] * 4]


def test_an_encoder_decoder_is_to_write_the_next_row_s_answer(tmp_path):
    chosen = component_of("model", "tiny_encoder_decoder")
    labels = torch.tensor([[5, 6], [7, IGNORED], [8, 9]])
    ids = torch.arange(6).reshape(3, 2)
    found = mismatch_answers(
        chosen.load(chosen.load_tokenizer(tmp_path), tmp_path).model,
        Batch(ids, torch.ones_like(ids), labels),
    )
    assert torch.equal(found.input_ids, ids)
    assert found.labels.tolist() == [[7, IGNORED], [8, 9], [5, 6]]
