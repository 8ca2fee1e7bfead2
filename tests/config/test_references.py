"""Own data and own models without an option file: `data=path:...` and `model=path:...`, through the command line."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from support.lab import instruction_rows
from support.records import newest_run

from instruct_lab import cli
from instruct_lab.config.references import Reference, option_label, parse_reference, quote_reference, suggest_reference
from instruct_lab.sweep.space import dimension_of

CHECK = ["check", "model=tiny_random", "tracker=none"]


def write_lines(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def turns(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with files in four formats and no option file; the command runs there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INSTRUCT_LAB_CACHE", str(tmp_path / "cache"))
    numbers = range(40)
    write_lines(tmp_path / "alpaca.jsonl", instruction_rows(40))
    write_lines(
        tmp_path / "chat.jsonl", [{"messages": turns(f"What is {n}?", f"It is {n}."), "id": n} for n in numbers]
    )
    lines = ["question,answer", *(f"What is {n}?,It is {n}." for n in numbers)]
    (tmp_path / "qa.csv").write_text("\n".join(lines), encoding="utf-8")
    pairs = [{"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "No."} for n in numbers]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs), encoding="utf-8")
    return tmp_path


def checked(capsys, *overrides):
    code = cli.main([*CHECK, *overrides])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("file", "objective", "read"),
    [
        (
            "alpaca.jsonl",
            "supervised",
            "read as Alpaca, an instruction and its answer, from instruction, input, output",
        ),
        ("chat.jsonl", "supervised", "messages with role and content, from messages; not used: id"),
        ("qa.csv", "supervised", "read as PromptCompletion, a question and its answer, from question, answer"),
        ("pairs.json", "dpo", "read as Preference"),
    ],
)
def test_own_files_need_one_override(own, capsys, file, objective, read) -> None:
    code, out, err = checked(capsys, f"data=path:{file}", f"objective={objective}")
    assert (code, err) == (0, "")
    assert read in out
    assert "validation and test rows are 10%" in out


@pytest.mark.slow
def test_a_run_on_an_own_file_records_an_ordinary_config(own) -> None:
    run = ["model=tiny_random", "tracker=none", "evaluation.max_examples=2", "generation.max_new_tokens=4"]
    assert cli.main(["train", "data=path:qa.csv", "trainer.max_steps=2", "data.split.test=0.0", *run]) == 0
    record = newest_run(own)
    assert record.parent.name == "qa-tiny_random-lora"
    config = yaml.safe_load((record / "config.yaml").read_text())
    assert config["data"] == {
        "_target_": "instruct_lab.data.DataSet",
        "train": {"file": {"_target_": "instruct_lab.data.Files", "path": "qa.csv"}},
        "split": {"_target_": "instruct_lab.data.HashSplit", "validation": 0.1, "test": 0.0},
        "format": {
            "_target_": "instruct_lab.data.PromptCompletion",
            "prompt": "question",
            "completion": "answer",
        },
    }
    assert cli.main(["reproduce", "latest"]) == 0


@pytest.mark.slow
def test_a_folder_gives_its_own_splits(own, capsys) -> None:
    folder = own / "set"
    (folder / "dev").mkdir(parents=True)
    rows = [{"prompt": f"q{n}", "completion": f"a{n}"} for n in range(20)]
    write_lines(folder / "train-00000-of-00002.jsonl", rows[:8])
    write_lines(folder / "train-00001-of-00002.jsonl", rows[8:16])
    write_lines(folder / "dev" / "part.jsonl", rows[16:])
    write_lines(folder / "extra.jsonl", rows)
    (folder / "README.md").write_text("# Mine")
    code, out, err = checked(capsys, "data=path:set")
    assert (code, err) == (0, "")
    assert "validation rows are the source's own; test rows are 10% of the training rows" in out
    assert "not read: extra.jsonl" in out
    assert cli.main(["show", "--json", *CHECK[1:], "data=path:set"]) == 0
    data = json.loads(capsys.readouterr().out)["config"]["data"]
    assert data["validation"]["file"]["path"] == "set/dev/part.jsonl"
    assert data["train"]["file"]["path"] == [f"set/train-0000{n}-of-00002.jsonl" for n in (0, 1)]
    assert data["split"] == {"_target_": "instruct_lab.data.HashSplit", "validation": 0.0, "test": 0.1}


@pytest.mark.slow
def test_a_folder_of_equal_files_is_a_pattern(own, capsys) -> None:
    for name in ("a", "b"):
        (own / "set" / name).mkdir(parents=True)
        write_lines(own / "set" / name / "rows.jsonl", [{"text": name}])
    assert checked(capsys, "data=path:set/", "template=plain")[0] == 0
    assert cli.main(["show", "--json", *CHECK[1:], "data=path:set/", "template=plain"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["data"]["train"]["file"]["path"] == "set/**/*.jsonl"


@pytest.mark.slow
@pytest.mark.parametrize("path", ["*.jsonl", "{folder}/alpaca.jsonl", "./alpaca.jsonl", "own file é~.jsonl"])
def test_paths_of_many_kinds(own, capsys, path) -> None:
    (own / "chat.jsonl").unlink()
    write_lines(own / "own file é~.jsonl", instruction_rows(40))
    code, _, err = checked(capsys, f"data=path:{path.format(folder=own)}")
    assert (code, err) == (0, "")


def test_a_text_file_is_read_as_plain_text(own, capsys) -> None:
    (own / "book.txt").write_text("One.\n\nTwo.\n")
    code, out, _ = checked(capsys, "data=path:book.txt", "template=plain")
    assert code == 0
    assert "read as PlainText" in out


def test_show_names_the_reference_as_origin(own, capsys) -> None:
    assert cli.main(["show", "--json", *CHECK[1:], "data=path:qa.csv", "data.format.prompt=answer"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["choices"]["data"] == "path:qa.csv"
    assert shown["origins"]["data.format.completion"] == "data=path:qa.csv"
    assert shown["origins"]["data.format.prompt"] == "override"


@pytest.mark.slow
def test_a_study_and_a_sweep_choose_references(own, capsys) -> None:
    (own / "experiments").mkdir()
    study = "# mine: a study\ndefaults:\n  - override /data: path:chat.jsonl\n"
    (own / "experiments" / "mine.yaml").write_text(study)
    code, out, _ = checked(capsys, "experiments=mine")
    assert code == 0
    assert "data=path:chat.jsonl: read as Messages" in out
    assert cli.main([*CHECK, "-m", "data=path:chat.jsonl,path:qa.csv,path:alpaca.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "3 runs over data" in out
    assert list(dimension_of("data", "path:chat.jsonl,path:qa.csv").choices) == ["path:chat.jsonl", "path:qa.csv"]
    assert all(f"data=path:{file}: read as" in out for file in ("chat.jsonl", "qa.csv", "alpaca.jsonl"))
    write_lines(own / "é~.jsonl", instruction_rows(40))
    assert cli.main([*CHECK, "-m", "data=path:é~.jsonl", "seed=1,2"]) == 0
    (own / "experiments" / "mine.yaml").write_text(study.replace("chat", "none"))
    code, _, err = checked(capsys, "experiments=mine")
    assert code == 2
    assert "There is no such file" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "expected", "typed"),
    [
        (
            {"promt": "a", "completion": "b"},
            "columns promt, completion fit no known format",
            ["data.format._target_=instruct_lab.data.PromptCompletion", "data.format.prompt=promt"],
        ),
        (
            {"prompt": "a", "response": "b", "answer": "c"},
            "columns prompt, response, answer fit several formats",
            [
                "data.format._target_=instruct_lab.data.PromptCompletion",
                "data.format.completion=answer",
            ],
        ),
        (
            {"headline": "a", "story": "b"},
            "columns headline, story fit no known format",
            [
                "data.format._target_=instruct_lab.data.Columns",
                'data.format.prompt="{headline}"',
                'data.format.completion="{story}"',
            ],
        ),
    ],
)
def test_unclear_columns_are_refused_with_what_to_type(own, capsys, rows, expected, typed) -> None:
    write_lines(own / "odd.jsonl", [{name: f"{text}{n}" for name, text in rows.items()} for n in range(30)])
    code, _, err = checked(capsys, "data=path:odd.jsonl")
    assert code == 2
    assert "1 problem" in err
    assert f"data.format: the {expected}" in err
    assert all(text in err for text in typed)
    assert checked(capsys, "data=path:odd.jsonl", *typed)[0] == 0


def test_rows_inside_an_object_are_read_with_the_key_that_the_message_names(own, capsys) -> None:
    (own / "wrapped.json").write_text(json.dumps({"data": [{"q": "a", "a": "b"}]}))
    code, _, err = checked(capsys, "data=path:wrapped.json")
    assert code == 2
    assert "records=data" in err
    chosen = [
        "data.format._target_=instruct_lab.data.PromptCompletion",
        "data.format.prompt=q",
        "data.format.completion=a",
    ]
    assert checked(capsys, "data=path:wrapped.json", "data.train.file.records=data", *chosen)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data=path:qa.cvs", "did you mean path:qa.csv?"),
        ("data=path:none/*.jsonl", "No file matches the pattern"),
        ("data=path:empty", "The folder has no data files"),
        ("data=path:model", "type model=path:model"),
        ("data=path:saved", "save_to_disk"),
        ("data=path:tests_only", "none to train on"),
        ("data=qa.csv", "to use it by name, type data=path:qa.csv"),
        ("data=file:qa.csv", "Did you mean 'path:qa.csv'?"),
        ("model=hf:owner/name", "Did you mean 'hub:owner/name'?"),
        ("model=path:nowhere", "There is no such folder"),
        ("model=path:qa.csv", "This is a file"),
        ("model=path:.", "did you mean path:broken?"),
        ("model=path:adapter", "name its base model (owner/base)"),
        ("model=path:broken", "config.json cannot be read"),
        ("model=path:vision", "is not of a language model"),
        ("model=path:", "the name is missing after the colon; write hub:OWNER/NAME[@REVISION] or path:FOLDER"),
        ("data=hub:", "the name is missing after the colon; write hub:OWNER/NAME[:CONFIGURATION]"),
        ("model=hub:a/b/c", "write it as hub:OWNER/NAME"),
        ("model=hub:owner/unknown", "The Hub is switched off (HF_HUB_OFFLINE)"),
        ("data=hub:a/b/c", "write it as hub:OWNER/NAME"),
        ("trainer=path:x", "group trainer has no such option"),
    ],
)
def test_wrong_references_are_answered_with_one_paragraph(own, capsys, override, expected) -> None:
    for folder in ("empty", "model", "saved", "tests_only", "adapter", "broken", "vision"):
        (own / folder).mkdir()
    (own / "model" / "config.json").write_text("{}")
    (own / "model" / "model.safetensors").write_bytes(b"")
    (own / "saved" / "dataset_info.json").write_text("{}")
    write_lines(own / "tests_only" / "test.jsonl", [{"text": "a"}])
    (own / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base"}')
    (own / "broken" / "config.json").write_text('{"model_type": ')
    (own / "vision" / "config.json").write_text('{"model_type": "vit", "architectures": ["ViTModel"]}')
    code, _, err = checked(capsys, override)
    assert code == 2
    assert expected in err
    assert "Traceback" not in err


def test_lists_and_references() -> None:
    assert parse_reference("model", "hub:a/b@c") == Reference("model", "hub", "a/b@c")
    assert [parse_reference(*pair) for pair in (("tuning", "hub:a"), ("model", "hub"), ("data", "path:"))] == [None] * 3
    assert suggest_reference("model", "huggingface:a/b") == "hub:a/b"
    assert suggest_reference("tuning", "hf:a/b") is None
    assert quote_reference("data=path:a.jsonl,path:b.jsonl") == "data=path:a.jsonl,path:b.jsonl"


@pytest.mark.parametrize(
    ("option", "label"),
    [
        ("hub:Qwen/Qwen3-0.6B@main", "Qwen3-0.6B"),
        ("path:/data/my rows/train.jsonl.gz", "train"),
        ("path:../data/*.jsonl", "data"),
        ("path:.", "path"),
        ("path:x/é.csv", "é"),
        (f"path:{'long' * 30}.csv", ("long" * 30)[:50]),
    ],
)
def test_labels_of_references_can_be_names_of_folders(option, label) -> None:
    reference = parse_reference("data", option)
    assert reference is not None
    assert reference.label == option_label("data", option) == label
    assert option_label("tuning", option) == option


def test_list_names_references(capsys) -> None:
    assert cli.main(["list", "model"]) == 0
    assert "hub:OWNER/NAME[@REVISION]" in capsys.readouterr().out


DOCS = Path(__file__).parents[2] / "docs"


def documented(page):
    """The `instruct-lab check` commands of a page that need no network, as lists of arguments."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line[1:] for line in lines if line[:2] == ["instruct-lab", "check"] and "hub:" not in " ".join(line)]


@pytest.fixture
def documented_files(own):
    """The files that the pages name."""
    rows = [{"prompt": f"q{n}", "completion": f"a{n}"} for n in range(30)]
    for folder in ("rows", "parts", "DIR"):
        (own / folder).mkdir()
    write_lines(own / "rows" / "train.jsonl", rows)
    write_lines(own / "rows" / "test.jsonl", rows[:3])
    write_lines(own / "parts" / "a.jsonl", rows)
    write_lines(own / "labels.jsonl", [row | {"label": number % 2 == 0} for number, row in enumerate(rows)])
    write_lines(own / "odd.jsonl", [{"headline": f"h{n}", "story": f"s{n}"} for n in range(30)])
    (own / "book.txt").write_text("One.\n\nTwo.\n")
    (own / "DIR" / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    (own / "DIR" / "model.safetensors").write_bytes(b"")
    (own / "FILE.gguf").write_bytes(b"GGUF")
    return own


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(arguments, id=" ".join(arguments))
        for page in ("own-data.md", "own-model.md")
        for arguments in documented(page)
    ],
)
def test_documented_commands_accept_own_files(documented_files, capsys, arguments) -> None:
    if "model=" not in " ".join(arguments):
        arguments = [*arguments, "model=tiny_random"]
    code = cli.main([*arguments, "tracker=none"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert all(line.startswith("warning: ") for line in captured.err.splitlines())
    assert "path:" in captured.out.partition("\n")[2], "it says what was recognised"


@pytest.mark.slow
def test_model_folder_is_recognized_and_described(documented_files, capsys) -> None:
    settings = {"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"}
    (documented_files / "DIR" / "config.json").write_text(json.dumps(settings))
    with (documented_files / "DIR" / "model.safetensors").open("wb") as weights:
        weights.truncate(1_100_000_000)  # a file with a hole takes no space
    assert cli.main(["check", "model=path:DIR", "data=path:qa.csv", "tracker=none"]) == 0
    assert "a decoder (LlamaForCausalLM, 1.1 GB of weights); the weights stay in 16 bits" in capsys.readouterr().out
    assert cli.main(["show", "--json", "model=path:DIR", "data=path:qa.csv", "tracker=none"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["config"]["model"]["dtype"] == "bfloat16"
    assert shown["origins"]["model.dtype"] == "model=path:DIR"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "content", "has_template"),
    [
        ("chat_template.jinja", "{{ messages }}", True),
        ("tokenizer_config.json", '{"chat_template": "{{ messages }}"}', True),
        ("tokenizer_config.json", '{"eos_token": "</s>"}', False),
        ("vocab.json", "{}", False),
    ],
)
def test_a_folder_without_a_chat_template_needs_another_template(documented_files, capsys, file, content, has_template):
    (documented_files / "DIR" / file).write_text(content)
    check = ["check", "model=path:DIR", "data=path:qa.csv", "tracker=none"]
    assert cli.main(check) == (0 if has_template else 2)
    assert ("template: the tokenizer of the model has no chat template" in capsys.readouterr().err) != has_template
    for other in ("template=chatml", 'template.jinja="{{ messages }}"'):
        assert cli.main([*check, other]) == 0
    assert ("it has no chat template" in capsys.readouterr().out) != has_template
