"""Perplexity: values against the model's own loss, bounds, batches, the fingerprint."""

import json
import math
import pickle
import shutil

import pydantic
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from instruct_lab import memory
from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.errors import InstructLabError
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.filters import perplexity_filter as perplexity_module
from instruct_lab.preprocessing.filters.perplexity_filter import PerplexityFilter

LETTERS = "abcdefghijklmnopqrstuvwxyz .\n"
TEXTS = [
    "the cat sat on the mat.",
    "a",
    "zqx jkv wpf",
    "hello there, how are you today my friend. " * 3,
    "aaaa aaaa aaaa",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random model of letters, saved."""
    path = tmp_path_factory.mktemp("model")
    vocabulary = {"<s>": 0, "?": 1} | {letter: number + 2 for number, letter in enumerate(LETTERS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="?").save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.5,
        max_position_embeddings=256,
        bos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def talk(answer, prompt="q"):
    return Conversation((Message("user", prompt), Message("assistant", answer)), id="x")


ROWS = [talk(text) for text in TEXTS]


def run(folder, rows=ROWS, **fields):
    audit = Audit()
    step = PerplexityFilter(model=str(folder), device="cpu", **{"of": "answer", "max_perplexity": 1e9, **fields})
    found = list(step.apply(rows, Context(stage="s", audit=audit)))
    return found, {(tally.action, tally.reason): tally.count for tally in audit.tallies.values()}, audit


def expected(folder, text, given=""):
    """exp of the model's own loss over the text's letters."""
    model = LlamaForCausalLM.from_pretrained(folder)
    numbers = {letter: number + 2 for number, letter in enumerate(LETTERS)}
    ids = torch.tensor([[0, *(numbers.get(letter, 1) for letter in given + text)]])
    labels = ids.clone()
    labels[:, : 1 + len(given)] = -100
    with torch.inference_mode():
        return math.exp(model(input_ids=ids, labels=labels).loss)


def measured(folder, *rows, **fields):
    """The perplexity of each row, found by the bound only: the only row over it is dropped."""
    step = PerplexityFilter(model=str(folder), device="cpu", of="answer", max_perplexity=1e9, **fields)
    pairs = [(step._context(row), row.answers[0]) for row in rows]
    return step._scorer().perplexities(pairs, 1)


def test_values_are_exp_of_the_models_own_mean_loss(folder):
    assert measured(folder, *ROWS) == pytest.approx([expected(folder, text) for text in TEXTS], rel=1e-4)


def test_the_prompt_may_precede_and_is_not_counted(folder):
    row = talk("the cat sat.", prompt="who sat")
    (found,) = measured(folder, row, given_prompt=True)
    assert found == pytest.approx(expected(folder, "the cat sat.", given="who sat\n"), rel=1e-4)
    assert found != pytest.approx(measured(folder, row)[0], rel=1e-4)


@pytest.mark.parametrize("batch_tokens", [1, 30, 100_000])
def test_batches_change_nothing(folder, monkeypatch, batch_tokens):
    one_by_one = [measured(folder, row)[0] for row in ROWS]
    monkeypatch.setattr(perplexity_module, "MAX_LOGITS", 100)
    assert measured(folder, *ROWS, batch_tokens=batch_tokens) == pytest.approx(one_by_one, rel=1e-4)


def test_windows_keep_the_order(folder, monkeypatch):
    monkeypatch.setattr(perplexity_module, "WINDOW_ROWS", 2)
    assert run(folder, min_tokens=1)[0] == ROWS


def test_the_band_drops_and_counts(folder):
    values = measured(folder, *ROWS)
    middle = sorted(values)[2]
    kept, counts, audit = run(folder, max_perplexity=middle * 1.001, min_tokens=1)
    assert kept == [row for row, value in zip(ROWS, values, strict=True) if value <= middle]
    assert counts == {("dropped", f"answer over perplexity {middle * 1.001:g}"): 2}
    assert audit.facts["s"]["perplexity"]["50%"] == pytest.approx(middle, rel=1e-4)
    kept, counts, _ = run(folder, min_perplexity=middle * 0.999, min_tokens=1)
    assert kept == [row for row, value in zip(ROWS, values, strict=True) if value >= middle]


def test_short_texts_stay_and_are_reported(folder):
    kept, counts, _ = run(folder, max_perplexity=1.0)
    assert kept == [ROWS[1]]
    assert counts[("reported", "answer under 10 tokens")] == 1
    assert run(folder, max_perplexity=1.0, min_tokens=1)[0] == []
    assert run(folder, rows=[talk("")], min_tokens=1)[1] == {("reported", "answer under 1 tokens"): 1}


def test_only_the_first_tokens_are_scored(folder):
    text = "the cat sat on the mat."
    assert measured(folder, talk(text), max_tokens=7)[0] == pytest.approx(expected(folder, text[:7]), rel=1e-4)
    long = talk("ab " * 5000, prompt="cd " * 5000)  # more than the model's positions, and a given prompt
    for fields in ({"max_tokens": 5000}, {"max_tokens": 5000, "given_prompt": True}):
        assert measured(folder, long, **fields)[0] > 1


def test_the_part_that_is_named_is_judged(folder):
    row = talk("the cat sat on", prompt="zqx jkv wpf")
    dropped = {part: run(folder, rows=[row], of=part, max_perplexity=1.0)[1] for part in ("prompt", "conversation")}
    assert dropped["prompt"] == {("dropped", "prompt over perplexity 1"): 1}
    assert dropped["conversation"] == {("dropped", "conversation over perplexity 1"): 1}
    values = {
        part: run(folder, rows=[row], of=part)[2].facts["s"]["perplexity"]["50%"] for part in ("prompt", "answer")
    }
    assert values["prompt"] == pytest.approx(expected(folder, "zqx jkv wpf"), rel=1e-4)
    assert values["answer"] == pytest.approx(expected(folder, "the cat sat on"), rel=1e-4)


def test_the_model_may_be_of_less_precision(folder):
    exact, rough = measured(folder, ROWS[0])[0], measured(folder, ROWS[0], dtype="bfloat16")[0]
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.1)


def test_a_perplexity_that_is_not_a_number_is_dropped(folder, monkeypatch):
    monkeypatch.setattr(perplexity_module.Scorer, "_perplexity", lambda *_: math.nan)
    _, counts, audit = run(folder, rows=ROWS[:1])
    assert counts == {("dropped", "answer whose perplexity is not a number"): 1}
    assert audit.facts["s"]["perplexity"] == {}


def test_the_fingerprint_is_of_the_folders_bytes(folder, tmp_path):
    step = PerplexityFilter(model=str(folder), max_perplexity=9.0)
    assert step.needs == {"data"}
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    other = PerplexityFilter(model=str(copy), max_perplexity=9.0)
    assert step.data_fingerprint(tmp_path) == other.data_fingerprint(tmp_path)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert step.data_fingerprint(tmp_path) != other.data_fingerprint(tmp_path)
    hub = [
        PerplexityFilter(model="a/b", revision=name, max_perplexity=9.0).data_fingerprint(tmp_path)
        for name in (None, "v1")
    ]
    assert hub == ["a/b@main", "a/b@v1"]


def test_a_missing_folder_and_one_without_a_model_are_problems(folder, tmp_path):
    def reasons(model):
        return [problem.reason for problem in PerplexityFilter(model=model, max_perplexity=9.0).problems()]

    assert reasons(str(folder)) == reasons("someone/model") == []
    assert "no such folder" in reasons("./nowhere")[0]
    assert "no config.json" in reasons(str(tmp_path))[0]


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 10**9}, {"vocab_size": 10**13}, {"hidden_size": 2**31}])
def test_a_model_that_does_not_fit_is_refused_before_it_is_built(folder, tmp_path, changes):
    shutil.copytree(folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(InstructLabError, match=r"GiB are free|more than 100,000 parameters"):
        run(tmp_path / "model")


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2), ("float16", 2)])
def test_the_dtype_decides_how_much_memory_the_model_needs(folder, monkeypatch, dtype, size):
    model = LlamaForCausalLM.from_pretrained(folder)
    needed = size * sum(parameter.numel() for parameter in model.parameters())
    needed += sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    monkeypatch.setattr(memory, "free_memory", lambda: needed)
    run(folder, ROWS[:1], dtype=dtype)
    monkeypatch.setattr(memory, "free_memory", lambda: needed - 1)
    with pytest.raises(InstructLabError, match="GiB are free"):
        run(folder, ROWS[:1], dtype=dtype)


def test_a_model_that_cannot_be_loaded_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InstructLabError, match="cannot be loaded"):
        run(tmp_path)
    with pytest.raises(InstructLabError, match="device 'nowhere'"):
        list(
            PerplexityFilter(model=str(folder), max_perplexity=9.0, device="nowhere").apply(ROWS, Context("s", Audit()))
        )


@pytest.mark.parametrize("kind", ["pickle", "code of the model", "code of the tokenizer"])
def test_a_model_that_could_run_code_is_refused(folder, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks whether to run the code"))
    unsafe = tmp_path / "unsafe"
    shutil.copytree(folder, unsafe)
    mark = tmp_path / "ran"
    if kind == "pickle":
        (unsafe / "model.safetensors").unlink()
        (unsafe / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Touch(mark)}))
    else:
        (unsafe / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass Own: pass\n", encoding="utf-8")
        name, entry = (
            ("config.json", "AutoModelForCausalLM") if "model" in kind else ("tokenizer_config.json", "AutoTokenizer")
        )
        config = json.loads((unsafe / name).read_text(encoding="utf-8"))
        config |= {"auto_map": {"AutoConfig": "own.Own", entry: "own.Own" if "model" in kind else ["own.Own", None]}}
        config |= {"model_type": "own"} if "model" in kind else {"tokenizer_class": "Own"}
        (unsafe / name).write_text(json.dumps(config), encoding="utf-8")
    messages = []
    try:
        run(unsafe, max_perplexity=1000)
    except InstructLabError as error:
        messages.append(str(error))
    assert len(messages) == 1 or kind == "code of the tokenizer", "only its tokenizer.json may be read without its code"
    assert all("safetensors" in message and len(message.splitlines()) == 1 for message in messages)
    assert not mark.exists()


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "max_perplexity"),
        ({"min_perplexity": 3.0, "max_perplexity": 2.0}, "min_perplexity"),
        ({"max_perplexity": 2.0, "given_prompt": True}, "given_prompt"),
        ({"max_perplexity": 0.5}, "max_perplexity"),
    ],
)
def test_settings_without_effect_are_refused(fields, field):
    with pytest.raises(pydantic.ValidationError, match=field):
        PerplexityFilter(model="a/b", **fields)


def test_a_folder_has_no_revision(folder):
    with pytest.raises(pydantic.ValidationError, match="revision"):
        PerplexityFilter(model=str(folder), revision="v1", max_perplexity=2.0)


def test_no_rows_load_no_model():
    step = PerplexityFilter(model="./nowhere", max_perplexity=2.0)
    assert list(step.apply([], Context("s", Audit()))) == []


def test_splits_default_to_training_only():
    assert PerplexityFilter(model="a/b", max_perplexity=2.0).splits == ["train"]
    assert PerplexityFilter(model="a/b", max_perplexity=2.0, splits=["test"]).splits == ["test"]
