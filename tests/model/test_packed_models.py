"""A model that reads several texts in one row computes what it computes for each text by itself."""

import contextlib

import pytest
import torch
import transformers
from packaging.version import Version
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from instruct_lab.batching import Batch, Packing
from instruct_lab.errors import InstructLabError
from instruct_lab.model import packed_attention
from instruct_lab.model.facts import WITHOUT_PACKING
from instruct_lab.model.packing import check_packing, packed_inputs

SIZE = {"vocab_size": 70, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
GPT2 = {"vocab_size": 70, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16}
GROUPED = {**SIZE, "num_key_value_heads": 2}
WINDOW = {**GROUPED, "sliding_window": 3, "head_dim": 4}
BERT = {**SIZE, "max_position_embeddings": 16}
MODERN = {**SIZE, "local_attention": 4, "global_attn_every_n_layers": 2, "pad_token_id": 0}
LENGTHS = (5, 12, 1, 9)


@pytest.fixture(autouse=True)
def nothing_is_compiled():
    with torch.compiler.set_stance("force_eager"):  # flex attention would be compiled for each shape
        yield


def build(architecture, settings, attention="sdpa"):
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **settings)
    is_encoder = "bert" in architecture or architecture in ("mpnet", "roformer")
    auto = AutoModelForMaskedLM if is_encoder else AutoModelForCausalLM
    model = auto.from_config(config, attn_implementation=attention).eval()
    for parameter in model.parameters():
        parameter.data *= 3  # so that attention decides
    return model


def batch_of(lengths, packing, seed=0):
    source = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, 70, mask.shape, generator=source) * mask
    return Batch(ids, mask, ids, packing=packing)


def packed_logits(model, batch):
    packed = packed_inputs(model, batch)
    logits = model(**packed.arguments).logits.flatten(0, 1)
    return [logits[row[mask.bool()]] for row, mask in zip(packed.positions, batch.attention_mask, strict=True)]


MODELS = [
    ("llama", GROUPED, "sdpa"),
    ("gpt2", GPT2, "sdpa"),
    ("mistral", WINDOW, "sdpa"),
    ("gemma3_text", {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]}, "sdpa"),
    ("bert", BERT, "sdpa"),
    ("roberta", {**BERT, "max_position_embeddings": 18, "pad_token_id": 1}, "sdpa"),
    ("modernbert", MODERN, "sdpa"),
    ("stablelm", GROUPED, "sdpa"),
    ("mistral", WINDOW, "eager"),
    ("llama", GROUPED, "flex_attention"),
]
FALCON = ("falcon", {**SIZE, "alibi": False}, "sdpa")
if Version(transformers.__version__) >= Version("5.24"):  # before, its mask did not follow its positions
    MODELS.append(FALCON)


@pytest.mark.parametrize(("architecture", "settings", "attention"), MODELS)
@pytest.mark.parametrize("packing", [Packing(), Packing(17), Packing(None, 8)], ids=str)
def test_a_text_in_a_row_gives_its_own_logits(architecture, settings, attention, packing):
    model, batch = build(architecture, settings, attention), batch_of(LENGTHS, packing)
    with torch.no_grad():
        found = packed_logits(model, batch)
        for row, length in enumerate(LENGTHS):
            single = model(input_ids=batch.input_ids[row : row + 1, :length]).logits[0]
            torch.testing.assert_close(found[row], single, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("architecture", "settings", "attention"), MODELS)
def test_a_changed_text_changes_no_logit_of_another(architecture, settings, attention):
    model, batch = build(architecture, settings, attention), batch_of(LENGTHS, Packing())
    with torch.no_grad():
        before = packed_logits(model, batch)
        for row, length in enumerate(LENGTHS):
            changed = batch_of(LENGTHS, Packing())
            changed.input_ids[row, :length] = 5 + (changed.input_ids[row, :length] + 7) % 60
            after = packed_logits(model, changed)
            same = [torch.equal(one, other) for one, other in zip(before, after, strict=True)]
            assert same == [other != row for other in range(len(LENGTHS))]


@pytest.mark.parametrize(("architecture", "settings", "attention"), [MODELS[0], MODELS[2], MODELS[4], MODELS[6]])
def test_padded_rows_are_computed_as_before(architecture, settings, attention):
    model, batch = build(architecture, settings, attention), batch_of(LENGTHS, Packing())
    with torch.no_grad():
        before = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        packed_logits(model, batch)
        assert model.config._attn_implementation == packed_attention.NAME
        assert torch.equal(before, model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits)
    assert packed_attention.NAME not in str(model.config.to_dict())


@pytest.mark.parametrize(("window", "causal"), [(None, True), (3, True), (None, False), (4, False)])
def test_the_kernel_for_gpus_gets_the_same_texts_and_windows(window, causal, monkeypatch):
    from torch.nn.attention import varlen

    def compute(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa):
        """What the documentation of the kernel says, text by text."""
        assert torch.equal(cu_seq_q, cu_seq_k)
        assert max_q == max_k == max(cu_seq_q.diff())
        left, right = window_size
        outputs = []
        for start, end in torch.stack([cu_seq_q[:-1], cu_seq_q[1:]], dim=1).tolist():
            distance = torch.arange(end - start)[:, None] - torch.arange(end - start)
            seen = torch.ones_like(distance, dtype=torch.bool)
            seen &= (distance <= left) if left >= 0 else True
            seen &= (-distance <= right) if right >= 0 else True
            q, k, v = (one[start:end].transpose(0, 1)[None] for one in (query, key, value))
            attend = torch.nn.functional.scaled_dot_product_attention
            outputs.append(attend(q, k, v, seen, scale=scale, enable_gqa=enable_gqa)[0].transpose(0, 1))
        return torch.cat(outputs)

    torch.manual_seed(1)
    rows, heads, seq, width = 2, 4, 11, 8
    query = torch.randn(rows, heads, seq, width)
    key, value = torch.randn(2, rows, 2, seq, width)
    borders = torch.tensor([0, 4, 11, 12, 20, 22], dtype=torch.int32)
    layer = torch.nn.Module()
    layer.is_causal, layer.num_key_value_groups = causal, 2
    mask = borders[None, None, None]
    expected, _ = packed_attention.attend(layer, query, key, value, mask, scaling=0.4, sliding_window=window)
    monkeypatch.setattr(varlen, "varlen_attn", compute)
    flat = [states.transpose(1, 2).flatten(0, 1) for states in (query, key, value)]
    found = packed_attention._attend_at_once(flat, borders, 8, 0.4, causal, window).unflatten(0, (rows, seq))
    torch.testing.assert_close(found, expected)


def test_models_that_keep_texts_apart_pass_the_check():
    for architecture, settings, attention in (MODELS[0], MODELS[4], MODELS[5], MODELS[7]):
        check_packing(build(architecture, settings, attention))


def test_the_check_finds_a_version_of_transformers_in_which_texts_of_falcon_see_each_other():
    refused = pytest.raises(InstructLabError, match="text changes with the text before")
    with contextlib.nullcontext() if FALCON in MODELS else refused:
        check_packing(build(*FALCON))


SMALL = {"vocab_size": 70, "hidden_size": 16, "d_model": 16, "n_layer": 1, "n_head": 2, "n_heads": 2, "n_layers": 1,
         "num_hidden_layers": 2, "num_attention_heads": 2, "state_size": 4, "n_embd": 16, "d_inner": 16, "ffn_dim": 16,
         "num_layers": 1, "attention_heads": 2, "intermediate_size": 16}  # fmt: skip
REFUSED = ("bloom", "mpt", "mamba", "rwkv", "xlnet", "xglm", "openai-gpt", "mpnet", "deberta-v2", "roformer")


@pytest.mark.parametrize("architecture", REFUSED)
def test_architectures_whose_texts_see_each_other_are_known_and_refused(architecture):
    assert architecture in WITHOUT_PACKING
    known = AutoConfig.for_model(architecture).to_dict()
    model = build(architecture, {name: value for name, value in SMALL.items() if name in known}, "eager")
    with pytest.raises(InstructLabError, match=r"text changes with the text before|computed by eager"):
        check_packing(model)


def test_the_other_models_of_this_file_are_not_among_them():
    assert not {architecture for architecture, *_ in MODELS} & WITHOUT_PACKING
