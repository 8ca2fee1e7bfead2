"""`inspect`: the data as it reaches the model, what is trained, what was cut, and what was dropped; no weights."""

import io
import json
import re
from collections import Counter

import pytest
from rich.console import Console

from instruct_lab.batching import IGNORED
from instruct_lab.data.remaining import NoRowsLeft
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment.check import check
from instruct_lab.inspection.inspected import Cut, cuts
from instruct_lab.inspection.inspection import inspect
from instruct_lab.model import Decoder

SHORT = ["batching.max_tokens=90", "generation.max_new_tokens=4"]
"""Cuts into the `lab`'s rows, whose tokens are bytes."""


@pytest.fixture
def look(lab, tiny, monkeypatch):
    """Run `inspect` as the command does; returns what it printed. Loading weights is an error."""

    def never(*arguments, **options):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(Decoder, "load", never)

    def run(*overrides, color=False, width=120, encoding="utf-8", **options):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
        system = "truecolor" if color else None
        console = Console(file=stream, width=width, force_terminal=color, color_system=system, no_color=False)
        experiment = check([*tiny, *overrides]).or_refuse().experiment
        settings = {
            "split": None,
            "num": 3,
            "row": None,
            "dropped": None,
            "row_id": None,
            "ids": False,
            "html": None,
            "as_json": False,
        }
        try:
            inspect(experiment, console=console, **{**settings, **options})
        finally:
            stream.flush()
            run.printed = stream.buffer.getvalue().decode(encoding)
        return run.printed

    return run


def rows_of(look, *overrides, **options):
    return json.loads(look(*overrides, as_json=True, **options))


def write_rows(lab, *rows):
    lines = [json.dumps({"instruction": prompt, "input": "", "output": answer}) for prompt, answer in rows]
    (lab / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


WHOLE = ["data.split.validation=0", "data.split.test=0", "evaluation.splits=[]"]
"""All rows in the training split."""


# ---- the machine-readable form


def test_json_has_the_text_that_the_ids_stand_for(look):
    rows = rows_of(look)
    assert len(rows) == 3
    for row in rows:
        assert row["text"] == "".join(row["tokens"])
        assert len(row["input_ids"]) == len(row["labels"]) == len(row["tokens"]) == row["num_tokens"]
        assert row["dropped"] is None
        assert row["split"] == "train"
        assert row["truncated"] is False
        assert row["id"]


def test_labels_are_unshifted_and_mark_the_answer_and_its_end(look):
    for row in rows_of(look):
        trained = [token for token, label in zip(row["tokens"], row["labels"], strict=True) if label != IGNORED]
        assert all(label in (IGNORED, number) for label, number in zip(row["labels"], row["input_ids"], strict=True))
        answer = re.search(r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", row["text"], re.DOTALL)[1]
        assert "".join(trained) == answer
        assert row["target_tokens"] == len(trained)


def test_the_ids_are_those_that_training_gets(look, lab, tiny):
    from instruct_lab.data import Audit
    from instruct_lab.training.datamodule import InstructionData

    experiment = check(tiny).or_refuse().experiment
    cache_path = lab / "cache"
    data = InstructionData(experiment, experiment.model.load_tokenizer(cache_path), cache_path, Audit())
    rows = rows_of(look, split="validation", num=100)
    examples = data.examples["validation"]
    assert [row["input_ids"] for row in rows] == [list(example.input_ids) for example in examples]
    assert [row["labels"] for row in rows] == [list(example.labels) for example in examples]


def test_a_row_is_chosen_by_its_index_in_the_split(look):
    (row,) = rows_of(look, row=2)
    assert row == rows_of(look)[2]
    assert row["row"] == 2


# ---- what a person reads


def test_brackets_mark_what_is_trained_on_a_terminal_without_colours(look):
    (row,) = rows_of(look, row=0)
    text = look(row=0)
    trained = "".join(t for t, label in zip(row["tokens"], row["labels"], strict=True) if label != IGNORED)
    answer = trained.removesuffix("<|im_end|>")
    assert f"⟦{answer}⟨<|im_end|>⟩⟧" in text
    assert text.count("⟦") == 2  # in the legend and here
    assert "\x1b" not in text


def test_what_is_trained_is_coloured_and_token_borders_show(look):
    text = look(row=0, color=True)
    assert "⟦" not in text
    escapes = set(re.findall(r"\x1b\[[\d;]*m", text))
    assert len(escapes) >= 6  # two shades each of what is trained and not, special tokens, the heading
    assert "<|im_end|>" in text


def test_ids_are_shown_when_asked_for(look):
    (row,) = rows_of(look, row=0)
    printed = look(row=0, ids=True).translate(str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789"))
    assert f"⟨<|im_start|>⟩{row['input_ids'][0]}" in printed
    assert "₁" not in look(row=0)


def test_a_special_token_that_the_user_wrote_looks_different_from_a_real_one(look, lab):
    write_rows(lab, ("say <|im_end|> now", "done"), *((f"other {n}", "yes") for n in range(5)))
    found = [row for row in rows_of(look, *WHOLE, num=10) if "say" in row["text"]]
    text = look(*WHOLE, num=10)
    assert "say <|im_end|> now⟨<|im_end|>⟩" in text
    assert len(found[0]["tokens"]) > found[0]["text"].count("<|im_end|>") * 2
    assert found[0]["input_ids"].count(found[0]["input_ids"][-2]) == found[0]["text"].count("<|im_end|>") - 1


def test_characters_of_several_tokens_and_control_characters_are_shown(look, lab):
    write_rows(lab, ("héllo 你好 😀", "a\u202eb\x1b[31m"), *((f"other {n}", "yes") for n in range(5)))
    text = look(*WHOLE, "preprocessing=none", num=10)
    assert "héllo 你好 😀" in text
    assert "a⟨U+202E⟩b␛[31m" in text
    assert "\x1b" not in text


def test_text_that_looks_like_markup_is_printed_unchanged(look, lab):
    write_rows(lab, ("[red]x[/red] :smile:", "[/]"), *((f"other {n}", "yes") for n in range(5)))
    assert "[red]x[/red] :smile:" in look(*WHOLE, num=10)


def test_a_terminal_without_unicode(look, lab):
    write_rows(lab, ("你好", "é"), *((f"other {n}", "yes") for n in range(5)))
    text = look(*WHOLE, num=10, encoding="ascii", ids=True)
    assert "<<|im_end|>>" in text
    rows = rows_of(look, *WHOLE, num=10, encoding="ascii")
    assert any("你好" in row["text"] for row in rows)


# ---- cuts


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "part"), [("truncate_prompt", "user"), ("truncate_response", "assistant")])
def test_the_position_of_a_cut_is_shown(look, lab, policy, part):
    long = " ".join(f"word{n}" for n in range(20))
    write_rows(lab, (long, "yes") if part == "user" else ("go", long), *((f"other {n}", "yes") for n in range(5)))
    overrides = [*WHOLE, *SHORT, f"batching.overlong={policy}"]
    rows = rows_of(look, *overrides, num=10)
    (row,) = [row for row in rows if "word0" in row["text"]]
    assert row["truncated"] is True
    assert row["num_tokens"] <= 90
    assert [row["truncated"] for row in rows].count(True) == 1
    whole = len(long.encode())
    kept = len(re.search(rf"{part}\n(.*?)<\|im_end\|>", row["text"], re.DOTALL)[1].encode())
    assert sum(cut["tokens"] for cut in row["cuts"]) == whole - kept
    text = look(*overrides, num=10)
    position = text.index(f"✂ {whole - kept} tokens cut")
    assert text.index("word0") < position < text.index("other 0")
    assert text[position:].startswith(f"✂ {whole - kept} tokens cut ⟨<|im_end|>⟩") is (part == "assistant")


def test_an_example_is_matched_with_its_own_row_after_others_were_dropped(look, lab, monkeypatch):
    import dataclasses

    from instruct_lab.training import datamodule

    class Sourced(datamodule.InstructionData):
        """The source of each row is named after its prompt."""

        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.conversations = {
                split: [dataclasses.replace(row, source=row.messages[0].content[:7]) for row in rows]
                for split, rows in self.conversations.items()
            }

    monkeypatch.setattr(datamodule, "InstructionData", Sourced)
    long = " ".join(f"word{n}" for n in range(20))
    write_rows(lab, (f"prompt0 {long}", "yes"), ("prompt1", "yes"), (f"prompt2 {long}", "yes"), ("prompt3", long))
    rows = rows_of(look, *WHOLE, *SHORT, "batching.overlong=truncate_response", num=10)
    assert [(row["source"], row["truncated"]) for row in rows] == [("prompt1", False), ("prompt3", True)]
    dropped_rows = rows_of(look, *WHOLE, *SHORT, "batching.overlong=truncate_response", dropped="response cut", num=10)
    assert [row["source"] for row in dropped_rows] == ["prompt0", "prompt2"]


def test_cuts_are_found_between_what_was_kept():
    assert cuts([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) == ()
    assert cuts([1, 2, 3, 4, 5], [1, 5]) == (Cut(1, 3),)
    assert cuts([1, 2, 3], [1, 2]) == (Cut(2, 1),)
    assert cuts([1, 2, 3, 4, 5, 6, 7], [1, 4, 7]) == (Cut(1, 2), Cut(2, 2))
    assert cuts([1, 2], [0, 1, 2]) == ()
    assert cuts(list(range(50_000)), [0, 25_000, 49_999]) == (Cut(1, 49_997),)


# ---- dropped rows


def test_a_row_that_batching_dropped_is_shown_with_its_tokens(look, lab):
    long = " ".join(f"word{n}" for n in range(20))
    write_rows(lab, *((f"other {n}", "yes") for n in range(5)), (f"first {long}", "yes"), (f"second {long}", "no"))
    rows = rows_of(look, *WHOLE, *SHORT, dropped="LONGER than")
    assert sorted(re.search("first|second", row["text"])[0] for row in rows) == ["first", "second"]
    for row in rows:
        assert "longer than 90 tokens" in row["dropped"]
        assert row["stage"].startswith("batching")
        assert row["num_tokens"] > 90
        assert "".join(row["tokens"]) == row["text"]
        assert long in row["text"]
    text = look(*WHOLE, *SHORT, dropped="longer")
    assert "longer than 90 tokens" in text
    assert "⟦yes⟨<|im_end|>⟩⟧" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overlong", "words", "line"),
    [
        ("drop", 20, "dropped 2 of 7 examples: longer than 90 tokens (batching.max_tokens)"),
        ("truncate_prompt", 20, "truncated 2 of 7 examples: middle of the prompt cut to fit 90 tokens (batching.max_"),
        ("truncate_response", 20, "dropped 2 of 7 examples: longer than 90 tokens (batching.max_tokens) even with the"),
        ("drop", 2, None),
    ],
)
def test_what_the_length_limit_cuts_is_one_line_with_counts_and_setting(look, lab, overlong, words, line):
    long = " ".join(f"word{n}" for n in range(words))
    write_rows(lab, *((f"other {n}", "yes") for n in range(5)), (f"first {long}", "yes"), (f"second {long}", "no"))
    printed = look(*WHOLE, *SHORT, f"batching.overlong={overlong}", width=200)
    assert ("batching.max_tokens" in printed) == (line is not None)
    assert line is None or line in printed


def test_a_row_that_preprocessing_dropped_is_shown_as_the_audit_sampled_it(look, lab):
    write_rows(lab, ("same", "answer"), ("same", "answer"), *((f"other {n}", "yes") for n in range(5)))
    rows = rows_of(look, *WHOLE, "preprocessing=standard", dropped="same conversation")
    assert [(row["input_ids"], row["labels"], row["split"]) for row in rows] == [([], [], "train")]
    assert "same" in rows[0]["text"]
    assert "same conversation" in rows[0]["dropped"]


def test_rows_that_all_went_to_another_split_are_shown_before_the_error(look, lab):
    write_rows(lab, ("go", "yes"), ("stop", "no"))
    same = f"+data.test.file={{_target_:instruct_lab.data.Files,path:{lab / 'rows.jsonl'}}}"
    with pytest.raises(NoRowsLeft, match="No row is left to train on: 2 rows were for train, 2 to test"):
        look(*WHOLE, same, dropped="prompt")
    assert "go" in look.printed
    assert "train prompt also in test" in look.printed


@pytest.mark.slow
def test_as_many_rows_of_a_reason_are_shown_as_asked_for(look, lab):
    long = " ".join(f"word{n}" for n in range(20))
    write_rows(lab, ("go", "yes"), *((f"row {n} {long}", "yes") for n in range(7)))
    assert len(rows_of(look, *WHOLE, *SHORT, dropped="longer", num=2)) == 2
    assert len(rows_of(look, *WHOLE, *SHORT, dropped="longer", num=100)) == 5


def test_an_unknown_reason_lists_the_known_ones(look, lab):
    long = " ".join(f"word{n}" for n in range(20))
    write_rows(lab, *((f"other {n}", "yes") for n in range(5)), (long, "yes"))
    with pytest.raises(InstructLabError, match=r"nonsense(.|\n)*1  (train: )?longer than 90 tokens"):
        look(*WHOLE, *SHORT, dropped="nonsense")
    with pytest.raises(InstructLabError, match="validation split"):
        look(*WHOLE, *SHORT, dropped="longer", split="validation")


def test_a_message_says_that_nothing_was_dropped(look, lab):
    write_rows(lab, *((f"other {n}", "yes") for n in range(5)))
    with pytest.raises(InstructLabError, match="no row was dropped at all"):
        look(*WHOLE, "preprocessing=none", dropped="longer")


def test_what_was_dropped_is_shown_even_where_nothing_is_left(look, lab):
    long = " ".join(f"word{n}" for n in range(20))
    write_rows(lab, *((f"row {n} {long}", "yes") for n in range(5)))
    with pytest.raises(InstructLabError, match="No training example is left"):
        look(*WHOLE, *SHORT, dropped="longer")
    assert "word19" in look.printed
    with pytest.raises(InstructLabError, match="No training example is left"):
        look(*WHOLE, *SHORT)


# ---- the page


def test_the_page_shows_tokens_with_their_ids_and_escapes_texts(look, lab):
    attack = "<script>alert(1)</script>"
    write_rows(lab, (attack, "yes"), *((f"other {n}", "yes") for n in range(5)))
    path = lab / "new" / "page.html"
    assert str(path) in look(*WHOLE, num=10, html=path, width=20).replace("\n", "")
    text = path.read_text(encoding="utf-8")
    assert text.count("<script") == 1
    assert 'class="token trained"' in text
    assert re.search(r'class="token special" title="\d+">&lt;\|im_start\|&gt;<', text)
    assert "text ids" not in text
    assert "http" not in text.replace("http-equiv", "")
    look(*WHOLE, num=1, html=path, ids=True)
    assert "text ids" in path.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_refused(look, lab):
    (lab / "file").write_text("x")
    with pytest.raises(InstructLabError, match="page cannot be written"):
        look(html=lab / "file" / "page.html")


# ---- bad input


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tset"}, "choose test"),
        ({"split": "zzz"}, "train"),
        ({"row": 10**6}, "no row 1000000"),
        ({"row": -1}, "no row -1"),
        ({"num": 0}, "--num"),
        ({"row": 1, "dropped": "x"}, "leave out all but one"),
        ({"row_id": "ab", "dropped": "x"}, "leave out all but one"),
        ({"row_id": " "}, "--id is empty"),
    ],
)
def test_bad_arguments_are_refused(look, options, message):
    with pytest.raises(InstructLabError, match=message):
        look(**options)


# ---- other families and objectives


def test_an_encoder_decoder_reads_one_text_and_writes_another(look):
    chosen = ["model=tiny_encoder_decoder", "template=contents"]
    (row,) = rows_of(look, *chosen, num=1)
    written = row["further"].pop("decoder writes")
    assert written.endswith("</s>")
    assert not row["further"]
    assert row["text"].startswith("Turn around number")
    assert len(row["labels"]) == row["target_tokens"]
    assert len(row["input_ids"]) == row["num_tokens"] == len(row["tokens"])
    printed = look(*chosen, num=1)
    assert f"{row['num_tokens']} tokens read, {row['target_tokens']} written" in printed
    assert "decoder writes:" in printed


def test_masks_are_shown_with_what_they_hide(look):
    chosen = ["model=tiny_encoder", "template=contents", "objective=masked", "metrics=masked"]
    chosen.append("objective.mask_share=1.0")
    chosen.append("objective.random_share=0.0")
    (row,) = rows_of(look, *chosen, num=1)
    hidden = [index for index, label in enumerate(row["labels"]) if label != IGNORED]
    assert hidden
    assert [row["tokens"][index] for index in hidden] == ["[MASK]"] * len(hidden)
    assert row["text"].count("[MASK]") == row["target_tokens"]
    assert len(re.findall(r"\[MASK\]→", look(*chosen, num=1))) == len(hidden)


def test_spans_that_became_sentinels_are_what_the_decoder_writes(look):
    (row,) = rows_of(look, "model=tiny_encoder_decoder", "template=contents", "objective=span_corruption", num=1)
    assert "<extra_id_0>" in row["text"]
    assert row["further"]["decoder writes"].startswith("<extra_id_0>")


@pytest.mark.slow
@pytest.mark.parametrize("model", [["model=tiny_random"], ["model=tiny_encoder_decoder", "template=contents"]])
def test_the_rejected_answer_of_a_pair_is_shown(lab, look, model, tmp_path):
    option = (lab / "conf" / "data" / "mine.yaml").read_text(encoding="utf-8").replace("Alpaca", "Preference")
    (lab / "conf" / "data" / "mine.yaml").write_text(option, encoding="utf-8")
    rows = [{"prompt": f"Say {n}", "chosen": f"the number {n}", "rejected": f"no idea {n}"} for n in range(20)]
    (lab / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (row,) = rows_of(look, *model, "objective=dpo", "metrics=preference", num=1)
    assert "no idea" in row["further"]["rejected"]
    assert "the number" in "".join([row["text"], row["further"].get("decoder writes", "")])
    assert row["rejected"]["labels"] != row["labels"]
    look(*model, "objective=dpo", "metrics=preference", num=1, html=tmp_path / "page.html")
    assert "rejected" in (tmp_path / "page.html").read_text(encoding="utf-8")


# ---- rows by id, and where rows were read


def write_lines(lab, name, *rows):
    lines = [json.dumps({"instruction": prompt, "input": "", "output": answer}) for prompt, answer in rows]
    (lab / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


FILLER = [(f"other {n}", "yes") for n in range(5)]


def test_every_row_shows_the_file_and_line_that_it_was_read_from(look, lab):
    write_rows(lab, ("first", "one"), ("second", "two"), *FILLER)
    rows = rows_of(look, *WHOLE, "preprocessing=none", num=10)
    lines = {row["text"].split("user\n")[-1].split("<")[0]: row["where"] for row in rows}
    texts = ["first", "second", *(f"other {n}" for n in range(5))]
    assert lines == {text: f"rows.jsonl, line {number}" for number, text in enumerate(texts, start=1)}
    assert "rows.jsonl, line 2" in look(*WHOLE, "preprocessing=none", row=1)


@pytest.mark.slow
@pytest.mark.parametrize("length", [16, 7])
def test_a_row_is_found_by_its_id_or_the_beginning_of_it_in_any_split(look, length):
    rows = [row for split in ("train", "validation", "test") for row in rows_of(look, split=split, num=2)]
    for row in rows:
        (found,) = rows_of(look, row_id=row["id"][:length])
        assert found == row


def test_the_tokens_of_a_row_found_by_its_id_are_printed(look):
    (row,) = rows_of(look, row=1)
    printed = look(row_id=row["id"])
    assert row["where"] in printed
    assert "⟦" in printed.split("──")[1]


def id_of(look, text, *overrides):
    """The id of a row before anything is dropped."""
    rows = rows_of(look, *WHOLE, "preprocessing=none", *overrides, "batching.max_tokens=null", num=100)
    (id_,) = {row["id"] for row in rows if text in row["text"]}
    return id_


@pytest.mark.slow
def test_a_dropped_row_is_found_with_the_reason_beyond_the_samples_of_the_audit(look, lab):
    long = " ".join(f"word{n}" for n in range(20))
    write_rows(lab, *FILLER, *((f"row {n} {long}", "yes") for n in range(12)))
    found_id = id_of(look, "row 9 ", *SHORT)
    (row,) = rows_of(look, *WHOLE, *SHORT, row_id=found_id)
    assert row["dropped"] == "train: longer than 90 tokens (batching.max_tokens)"
    assert row["where"] == "rows.jsonl, line 15"
    assert row["id"] == found_id
    assert row["num_tokens"] > 90
    assert "row 9 " in row["text"]


@pytest.mark.slow
def test_a_row_that_a_step_dropped_is_found_with_the_reason(look, lab):
    write_rows(lab, *FILLER, *((f"question {n}", "an answer of seven words or so" * 9) for n in range(9)))
    found_id = id_of(look, "question 7", "batching.overlong=truncate_response")
    step = "+preprocessing.steps.short={_target_: instruct_lab.preprocessing.Length, max_characters: 60}"
    (row,) = rows_of(look, *WHOLE, step, row_id=found_id)
    assert row["stage"] == "preprocessing/train/short"
    assert "60" in row["dropped"]
    assert row["where"] == "rows.jsonl, line 13"
    assert "question 7" in row["text"]
    assert row["num_tokens"]


def test_equal_rows_are_found_with_the_kept_one_first(look, lab):
    write_rows(lab, ("same", "answer"), *FILLER, ("same", "answer"), ("same", "answer"))
    found_id = id_of(look, "same")
    rows = rows_of(look, *WHOLE, "preprocessing=standard", row_id=found_id)
    assert [row["where"] for row in rows] == [f"rows.jsonl, line {n}" for n in (1, 7, 8)]
    assert rows[0]["dropped"] is None
    assert all("same conversation" in row["dropped"] for row in rows[1:])
    assert "2 more rows have this id" in look(*WHOLE, "preprocessing=standard", row_id=found_id, num=1)


@pytest.mark.slow
@pytest.mark.parametrize("data", ["one", "mixture"])
def test_a_row_that_was_dropped_while_the_data_were_read_is_found(look, lab, data):
    write_rows(lab, *FILLER, *((f"question {n}", "yes") for n in range(9)))
    found_ids = {text: id_of(look, text) for text in (f"question {n}" for n in range(9))}
    option = (lab / "conf" / "data" / "mine.yaml").read_text(encoding="utf-8")
    limited = option.replace("0.15", "0.0") + "limit:\n  train: 4\n"
    if data == "mixture":
        indented = "".join(f"    {line}\n" for line in limited.splitlines()[1:])
        write_lines(lab, "more.jsonl", *((f"further {n}", "no") for n in range(5)))
        limited = f"# mine: a mixture\n_target_: instruct_lab.data.Mixture\nparts:\n  a:\n{indented}  b:\n{indented}"
        limited = limited[::-1].replace("rows.jsonl"[::-1], "more.jsonl"[::-1], 1)[::-1]
    (lab / "conf" / "data" / "mine.yaml").write_text(limited, encoding="utf-8")
    whole = [override for override in WHOLE if data == "one" or not override.startswith("data.")]
    kept = {row["id"] for row in rows_of(look, *whole, num=100)}
    dropped = {text: id_ for text, id_ in found_ids.items() if id_ not in kept}
    assert len(dropped) >= 5
    for text, found_id in list(dropped.items())[:2]:
        (row,) = rows_of(look, *whole, row_id=found_id)
        assert row["dropped"] == "more than data.limit"
        assert row["where"] == f"rows.jsonl, line {int(text.split()[1]) + 6}"


@pytest.mark.slow
def test_a_row_that_the_template_refuses_is_found_with_its_line_and_reason(look, lab):
    write_rows(lab, *FILLER, ("forbidden", "yes"))
    found_id = id_of(look, "forbidden")
    jinja = (
        "{% for m in messages %}{% if 'forbidden' in m.content %}{{ raise_exception('no such word') }}{% endif %}"
        "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    )
    chosen = [*WHOLE, f'template.jinja="{jinja}"', "data.max_broken_share=0.5"]
    for options in ({"row_id": found_id}, {"dropped": "no such word"}):
        (row,) = rows_of(look, *chosen, **options)
        assert row["where"] == "rows.jsonl, line 6"
        assert row["id"] == found_id
        assert "no such word" in row["dropped"]
        assert "rows.jsonl, line 6" in row["text"]
        assert row["text"].endswith("user: forbidden\nassistant: yes")
    with pytest.raises(InstructLabError, match=r"rows.jsonl, line 6, conversation"):
        look(*chosen[:-1])


def test_an_id_that_is_unknown_or_not_unique_is_refused(look):
    with pytest.raises(InstructLabError, match="No row has an id that begins with 'zz'"):
        look(row_id="zz")
    counts = Counter(row["id"][0] for row in rows_of(look, num=100))
    character, count = counts.most_common(1)[0]
    with pytest.raises(InstructLabError, match=f"ids begin with '{character}'") as caught:
        look(row_id=character, split="train")
    assert int(str(caught.value).split()[0]) >= count > 1


def test_every_dropped_row_is_shown_without_a_reason(look, lab):
    long = " ".join(f"word{n}" for n in range(20))
    write_rows(lab, ("same", "answer"), ("same", "answer"), *FILLER, ("go", long))
    rows = rows_of(look, *WHOLE, *SHORT, "preprocessing=standard", dropped="")
    assert {row["where"] for row in rows} == {"rows.jsonl, line 2", "rows.jsonl, line 8"}
    assert all(row["id"] for row in rows)
