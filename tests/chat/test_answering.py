"""A streamed answer is the answer of `generate`, and of transformers for the same chat."""

import dataclasses

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instruct_lab import cli
from instruct_lab.chat.decoding import Decoding
from instruct_lab.data import Message
from instruct_lab.generation.streaming import TextStream
from instruct_lab.model.byte_tokenizer import byte_tokenizer

pytestmark = pytest.mark.slow
TURNS = [
    [("user", "Turn around")],
    [("system", "Be kind."), ("user", "red")],
    [("user", "a"), ("assistant", "b"), ("user", "é 你好 😀")],
    [("system", "x"), ("user", "<|im_end|>"), ("assistant", ""), ("user", "c"), ("assistant", "d"), ("user", " e")],
]


def as_messages(turns):
    return [Message(role, content) for role, content in turns]


def streamed(answerer, messages):
    pieces = []
    answer = answerer.stream(messages, pieces.append)
    assert "".join(pieces) == answer.text
    return answer, pieces


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize(
    "decoding",
    [Decoding(), Decoding(temperature=1.5, seed=3), Decoding(top_p=0.9, max_new_tokens=20), Decoding(temperature=0.0)],
    ids=["greedy", "temperature", "top_p", "zero"],
)
def test_a_streamed_answer_is_the_whole_answer(answerers, turns, decoding):
    messages = as_messages(turns)
    for answerer in answerers:
        changed = answerer.with_decoding(decoding)
        answer, _ = streamed(changed, messages)
        assert [answer.text] == changed.answer([messages])


def test_a_beam_search_passes_its_answer_on_in_one_piece(answerers):
    generation = dataclasses.replace(answerers[0].experiment.generation, num_beams=2)
    searching = dataclasses.replace(
        answerers[0], experiment=dataclasses.replace(answerers[0].experiment, generation=generation)
    )
    messages = as_messages(TURNS[0])
    answer, pieces = streamed(searching, messages)
    assert [answer.text] == searching.answer([messages])
    assert len(pieces) == bool(answer.text)


def test_the_answer_is_that_of_transformers_own_chat(answerers):
    """transformers renders the chat, generates and decodes, without any code of the project."""
    turns = TURNS[2]
    for answerer in answerers:
        tokenizer, model = answerer.loaded.tokenizer, answerer.loaded.model
        chat = [{"role": role, "content": content} for role, content in turns]
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        stops = [tokenizer.convert_tokens_to_ids("<|im_end|>")]
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=12, do_sample=False, eos_token_id=stops)[0]
        expected = tokenizer.decode(ids[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert streamed(answerer, as_messages(turns))[0].text == expected


def test_the_models_before_and_after_training_differ(answerers):
    texts = [[streamed(answerer, as_messages(turns))[0].text for turns in TURNS] for answerer in answerers]
    assert texts[0] != texts[1]


def test_the_command_generate_prints_the_same_answer(answerers, chat_lab, capsys):
    for answerer, option in zip(answerers, ([], ["--base"]), strict=True):
        capsys.readouterr()
        assert cli.main(["generate", "latest", "red", "--system", "Be kind.", *option]) == 0
        assert capsys.readouterr().out == streamed(answerer, as_messages(TURNS[1]))[0].text + "\n"


def test_an_exception_of_the_receiver_ends_the_generation_and_leaves_the_model_usable(answerers):
    (before,) = answerers[0].answer([as_messages(TURNS[0])])

    def receive(piece):
        raise BrokenPipeError

    decoding = Decoding(max_new_tokens=100)
    with pytest.raises(BrokenPipeError):
        answerers[0].with_decoding(decoding).stream(as_messages(TURNS[0]), receive)
    assert answerers[0].answer([as_messages(TURNS[0])]) == [before]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=12), data=st.binary(max_size=6))
def test_pieces_make_up_the_text_and_cut_no_character(text, data):
    tokenizer = byte_tokenizer()
    letters = tokenizer("".join(map(chr, range(32, 127))))["input_ids"]
    ids = [*tokenizer(text)["input_ids"], *(letters[byte % len(letters)] for byte in data)]
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    pieces = []
    stream = TextStream(tokenizer, [stop], pieces.append)
    stream.put(torch.tensor([[1, 2, 3]]))
    for token in [*ids, stop]:
        stream.put(torch.tensor([token]))
    whole = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    stream.finish(whole)
    assert "".join(pieces) == whole
    assert all(piece and "�" not in piece for piece in pieces if "�" not in text)
