"""Examples of every layout: what an encoder reads, what a decoder predicts, pairs, weights."""

import dataclasses

import pytest
from support.chat_tokenizers import byte_level
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from instruct_lab.batching import IGNORED, Layout, Padded
from instruct_lab.batching.wrapped_texts import WrappedTexts
from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.template import ChatTemplate, Contents

SPECIAL = ["<pad>", "</s>", "[CLS]", "[SEP]"]


def wrapping(single, **named):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    ids = [(token, backend.token_to_id(token)) for token in SPECIAL if token in single]
    backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", **named)


T5 = wrapping("$A </s>", eos_token="</s>")
BERT = wrapping("[CLS] $A [SEP]", cls_token="[CLS]", sep_token="[SEP]")


def dialogue(*contents, **settings):
    roles = ["user", "assistant"]
    return Conversation(tuple(Message(roles[i % 2], text) for i, text in enumerate(contents)), "id", **settings)


def encode(conversation, layout, tokenizer, template=None, **settings):
    audit = Audit()
    template = template or (Contents() if layout.family != "decoder" else ChatTemplate())
    found = list(Padded(**settings).encode([conversation], template, tokenizer, audit, "train", layout))
    return found, audit


def only(*arguments, **settings):
    (example,), _ = encode(*arguments, **settings)
    return example


def test_an_encoder_decoder_reads_the_prompt_and_predicts_the_answer_with_its_end():
    example = only(dialogue("Hi", "Hello", "Bye", "See you"), Layout("answers", "encoder-decoder"), T5)
    assert (
        T5.decode(example.input_ids) == "Hi\nHello\nBye\n</s>" or T5.decode(example.input_ids) == "Hi\nHello\nBye</s>"
    )
    assert T5.decode(example.labels) == "See you</s>"
    assert example.labels[-1] == T5.eos_token_id
    assert example.num_target_tokens == len(example.labels)


def test_the_prompt_of_an_encoder_decoder_is_what_it_reads_in_training():
    conversation, layout = dialogue("Hi", "Hello"), Layout("answers", "encoder-decoder")
    template = Contents(prefix="answer: ")
    (prompt,) = Padded().encode_prompts([conversation], template, T5, layout)
    assert prompt == only(conversation, layout, T5, template).input_ids
    assert T5.decode(prompt).startswith("answer: Hi")


def test_a_conversation_without_a_final_answer_is_counted():
    found, audit = encode(dialogue("Hi"), Layout("answers", "encoder-decoder"), T5)
    assert found == []
    assert audit.count("dropped", "batching") == 1


@pytest.mark.parametrize("layout", [Layout("text", "encoder"), Layout("text", "encoder-decoder")])
def test_a_whole_text_is_between_the_tokenizer_s_special_tokens(layout):
    tokenizer = BERT if layout.family == "encoder" else T5
    example = only(dialogue("Hi", "Hello"), layout, tokenizer)
    assert example.input_ids == tokenizer("Hi\nHello")["input_ids"]
    inside = [label for label in example.labels if label not in (IGNORED, tokenizer.eos_token_id)]
    assert inside == tokenizer("Hi\nHello", add_special_tokens=False)["input_ids"]
    if layout.family == "encoder":
        assert example.labels[0] == example.labels[-1] == IGNORED, "special tokens are never masked"


def test_content_that_spells_a_special_token_is_text_for_every_family():
    for layout, tokenizer in ((Layout("text", "encoder"), BERT), (Layout("answers", "encoder-decoder"), T5)):
        example = only(dialogue("a</s>[SEP]b", "c</s>"), layout, tokenizer)
        special = {tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
        assert sum(number in special for number in example.input_ids) == (2 if layout.family == "encoder" else 1)
        if layout.family != "encoder":
            assert sum(number in special for number in example.labels) == 1


def test_every_token_of_a_text_is_trained_but_the_first():
    tokenizer = byte_level("chatml")
    example = only(dialogue("Hi", "Hello"), Layout("text", "decoder"), tokenizer)
    assert example.labels == [IGNORED, *example.input_ids[1:]]


@pytest.mark.parametrize("family", ["decoder", "encoder-decoder"])
def test_a_pair_holds_two_answers_to_one_prompt_and_trains_nothing_else(family):
    tokenizer = byte_level("chatml") if family == "decoder" else T5
    pair = dialogue("Hi", "Hello", "Bye", "See you", rejected=(Message("assistant", "No"),))
    example = only(pair, Layout("pairs", family), tokenizer)
    chosen, rejected = example, example.rejected

    def trained(one):
        return tokenizer.decode([label for label in one.labels if label != IGNORED])

    end = "<|im_end|>" if family == "decoder" else "</s>"
    assert (trained(chosen), trained(rejected)) == (f"See you{end}", f"No{end}")
    if family == "encoder-decoder":
        assert chosen.input_ids == rejected.input_ids
    else:
        shared = next(i for i, label in enumerate(chosen.labels) if label != IGNORED)
        assert chosen.input_ids[:shared] == rejected.input_ids[:shared]


def test_a_row_without_a_rejected_answer_is_no_pair_and_is_counted():
    found, audit = encode(dialogue("Hi", "Hello"), Layout("pairs", "decoder"), byte_level("chatml"))
    assert found == []
    assert "no chosen and rejected answer" in str(audit.to_json())


def test_pairs_are_collated_chosen_first():
    tokenizer, layout = byte_level("chatml"), Layout("pairs", "decoder")
    rows = [
        dialogue("a", "bb", rejected=(Message("assistant", "c"),)),
        dialogue("d", "e", rejected=(Message("assistant", "ff"),)),
    ]
    examples = [only(row, layout, tokenizer) for row in rows]
    batch = Padded().collate(examples, tokenizer.pad_token_id)
    assert batch.is_paired
    assert batch.input_ids.shape[0] == 4
    for index, example in enumerate(examples):
        for row, one in ((index, example), (index + 2, example.rejected)):
            length = int(batch.attention_mask[row].sum())
            assert batch.input_ids[row, :length].tolist() == one.input_ids
            assert batch.labels[row, :length].tolist() == one.labels
    assert batch.chosen.input_ids.shape[0] == batch.rejected.input_ids.shape[0] == 2
    assert batch.reference is None


def test_labels_of_another_length_are_padded_on_their_own():
    examples = [only(dialogue("Hello there", "a"), Layout("answers", "encoder-decoder"), T5)]
    examples.append(only(dialogue("b", "a long answer"), Layout("answers", "encoder-decoder"), T5))
    batch = Padded().collate(examples, T5.pad_token_id)
    assert batch.input_ids.shape[1] == max(len(e.input_ids) for e in examples)
    assert batch.labels.shape[1] == max(len(e.labels) for e in examples)
    assert batch.labels[0].tolist().count(IGNORED) == batch.labels.shape[1] - len(examples[0].labels)


def test_a_message_s_weight_is_that_of_its_target_tokens():
    tokenizer = byte_level("chatml")
    messages = (
        Message("user", "Hi"),
        Message("assistant", "Hello", weight=0.5),
        Message("user", "Bye"),
        Message("assistant", "See you"),
    )
    example = only(Conversation(messages, "id"), Layout(), tokenizer)
    plain = only(dialogue("Hi", "Hello", "Bye", "See you"), Layout(), tokenizer)
    assert (example.input_ids, example.labels) == (plain.input_ids, plain.labels)
    assert plain.weights is None
    halved = [label for label, weight in zip(example.labels, example.weights, strict=True) if weight == 0.5]
    assert tokenizer.decode(halved) == "Hello<|im_end|>"
    batch = Padded().collate([example, plain], tokenizer.pad_token_id)
    assert batch.weights[0, : len(example.weights)].tolist() == example.weights
    assert batch.weights[1, : len(plain.labels)].tolist() == [1.0] * len(plain.labels)


def test_an_encoder_decoder_s_answer_has_the_weight_of_its_message():
    messages = (Message("user", "Hi"), Message("assistant", "Hello", weight=0.5))
    example = only(Conversation(messages, "id"), Layout("answers", "encoder-decoder"), T5)
    assert example.weights == [0.5] * len(example.labels)
    assert only(dialogue("Hi", "Hello"), Layout("answers", "encoder-decoder"), T5).weights is None


def test_special_tokens_that_a_text_has_already_are_neither_doubled_nor_trained():
    ids = BERT("Hi")["input_ids"]
    found, labels = WrappedTexts(BERT).wrap(list(ids), list(ids))
    assert found == ids
    assert labels == [IGNORED, *ids[1:-1], IGNORED]


@pytest.mark.parametrize("policy", ["truncate_prompt", "truncate_response"])
def test_an_overlong_prompt_or_answer_of_an_encoder_decoder_is_cut_by_policy(policy):
    layout = Layout("answers", "encoder-decoder")
    long_prompt, long_answer = dialogue("x" * 30, "ok"), dialogue("hi", "y" * 30)
    settings = {"max_tokens": 12, "overlong": policy}
    helped, hopeless = (long_prompt, long_answer) if policy == "truncate_prompt" else (long_answer, long_prompt)
    (example,), audit = encode(helped, layout, T5, **settings)
    assert max(len(example.input_ids), len(example.labels)) == 12
    assert example.labels[-1] == T5.eos_token_id
    assert audit.count("truncated", "batching") == 1
    found, audit = encode(hopeless, layout, T5, **settings)
    assert found == []
    assert audit.count("dropped", "batching") == 1


def test_an_overlong_pair_is_left_out_whole():
    pair = dialogue("Hi", "Hello", rejected=(Message("assistant", "x" * 100),))
    found, audit = encode(pair, Layout("pairs", "decoder"), byte_level("chatml"), max_tokens=40)
    assert found == []
    assert audit.count("dropped", "batching") == 1


def test_random_changes_depend_on_seed_epoch_and_example_and_not_on_the_batch_size():
    tokenizer = byte_level("chatml")
    examples = [only(dialogue(f"q{n}", f"a{n}"), Layout(), tokenizer) for n in range(7)]

    def transform(example, source):
        return type(example)(example.input_ids, [int(source.random() * 1e9)] * len(example.labels), example.id)

    def epochs(batch_size, rank=0, world_size=1, seed=3):
        loader = Padded(group_by_length=False, batch_size=batch_size).loader(
            examples, seed=seed, pad_token_id=0, rank=rank, world_size=world_size, transform=transform
        )
        return [{example: label for batch in loader for example, label in first_labels(batch)} for _ in range(2)]

    def first_labels(batch):
        for ids, mask, labels in zip(batch.input_ids, batch.attention_mask, batch.labels.tolist(), strict=True):
            if labels[0] != IGNORED:  # else the copy for a device without an example
                yield tuple(ids[mask.bool()].tolist()), labels[0]

    first, second = epochs(1)
    assert epochs(3) == [first, second]
    ranks = [epochs(2, rank, 2) for rank in (0, 1)]
    assert [ranks[0][e] | ranks[1][e] for e in (0, 1)] == [first, second]
    assert not set(first.values()) & set(second.values()), "another epoch has other random numbers"
    assert epochs(1, seed=4)[0] != first


def labelled(desirable, *contents, **settings):
    return dialogue(*(contents or ("Hi", "Hello")), desirable=desirable, **settings)


@pytest.mark.parametrize("family", ["decoder", "encoder-decoder"])
def test_a_labelled_answer_is_the_chosen_side_of_a_pair_with_its_label(family):
    tokenizer = byte_level("chatml") if family == "decoder" else T5
    contents = ("Hi", "Hello", "Bye", "See you")
    pair = only(dialogue(*contents, rejected=(Message("assistant", "No"),)), Layout("pairs", family), tokenizer)
    for desirable in (True, False):
        example = only(labelled(desirable, *contents), Layout("labels", family), tokenizer)
        assert (example.input_ids, example.labels) == (pair.input_ids, pair.labels)
        assert (example.desirable, example.rejected) == (desirable, None)
    again = only(dialogue(*contents, rejected=(Message("assistant", "No"),)), Layout("labels", family), tokenizer)
    assert again == pair


def test_labels_and_pairs_are_encoded_in_order_and_others_are_counted():
    rows = [
        labelled(True, "a", "b"),
        dialogue("c", "d"),
        dialogue("e", "f", rejected=(Message("assistant", "g"),)),
        labelled(False, "h", "i"),
        labelled(True, "no answer"),
    ]
    audit, tokenizer = Audit(), byte_level("chatml")
    found = list(Padded().encode(rows, ChatTemplate(), tokenizer, audit, "train", Layout("labels", "decoder")))
    assert [(one.desirable, one.rejected is not None) for one in found] == [
        (True, False),
        (None, True),
        (False, False),
    ]
    assert audit.count("dropped", "batching") == 2
    assert "neither a label nor a rejected answer" in str(audit.to_json())
    batch = Padded().collate(found, tokenizer.pad_token_id)
    assert not batch.is_paired
    assert batch.desirable.tolist() == [True, True, False, False]
    assert batch.owners.tolist() == [0, 1, 2, 1]
    assert batch.num_examples == len(batch.chosen.input_ids) == 3
    width = len(found[1].rejected.input_ids)
    assert batch.input_ids[3, :width].tolist() == found[1].rejected.input_ids
    pairs = Padded().collate([found[1]], 0)
    assert (pairs.is_paired, pairs.desirable, pairs.num_examples) == (True, None, 1)
    singles = Padded().collate([found[0], found[2]], 0)
    assert (singles.is_paired, singles.num_examples, singles.chosen) == (False, 2, singles)


@pytest.mark.parametrize("reads", ["pairs", "labels"])
@pytest.mark.parametrize(
    ("message", "reason"),
    [({"weight": 0.5}, "has a weight"), ({"trained": False}, "against training"), ({"weight": 2.0}, "has a weight")],
)
def test_flags_and_weights_that_no_preference_uses_are_refused(reads, message, reason):
    rejected = (Message("assistant", "No"),) if reads == "pairs" else ()
    rows = [labelled(True, "a", "b", rejected=rejected), labelled(True, "c", "d", rejected=rejected)]
    rows[1] = dataclasses.replace(rows[1], messages=(rows[1].messages[0], Message("assistant", "d", **message)))
    refused, audit = [], Audit()
    layout, tokenizer = Layout(reads, "decoder"), byte_level("chatml")
    found = list(Padded().encode(rows, ChatTemplate(), tokenizer, audit, "train", layout, refused))
    assert len(found) == 1
    assert reason in str(refused[0])
    assert "ignore_keys" in str(refused[0])
    assert audit.count("dropped", "batching") == 1
