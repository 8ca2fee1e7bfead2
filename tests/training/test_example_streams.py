"""Training on a stream: each row once a pass, the same examples as without a stream, and an exact position."""

import itertools
import json
import shutil
from pathlib import Path

import datasets
import pytest
from support.command_server import command
from support.lab import WORDS, instruction_rows
from support.records import logged, newest_run
from test_resume import SAME, kill_after

from instruct_lab import cli
from instruct_lab.data import Audit, Files, HubDataSet
from instruct_lab.experiment.check import check
from instruct_lab.training.datamodule import InstructionData

STREAM = ["data.stream=true", "data.train.mine.max_rows=40", "preprocessing.steps.deduplicate=null"]
NUM_ROWS = 150


@pytest.fixture
def rows(lab):
    """More rows than a block has, some of them broken, empty, too long, or with a prompt of another split."""
    found = instruction_rows(NUM_ROWS)
    for index, row in enumerate(found):
        if index % 31 == 30:
            row["output"] = ""
        if index % 47 == 46:
            row["output"] = " ".join(WORDS * 12)
    path = lab / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return found


@pytest.fixture
def open_data(rows, tiny):
    """Prepare the data of a run; gives the data module and its stream."""

    def run(*overrides):
        experiment = check([*tiny, "batching.max_tokens=200", *overrides]).or_refuse().experiment
        cache = Path(experiment.cache_path)
        data = InstructionData(experiment, experiment.model.load_tokenizer(cache), cache, Audit())
        return data, data._stream(is_reporting=False) if experiment.data.is_stream else None

    return run


def loader_of(data, stream, **options):
    batching = data._experiment.batching
    return batching.loader(stream, seed=3, pad_token_id=0, transform=data.corrupt, **options)


def counted(read, numbers):
    """A function that reads a block and keeps its number."""

    def read_and_count(number, start):
        numbers.append(number)
        return read(number, start)

    return read_and_count


def ids_of(examples):
    return [(list(one.input_ids), list(one.labels)) for one in examples]


def test_the_blocks_of_a_pass_are_the_examples_of_a_run_that_reads_all_rows(open_data):
    whole, _ = open_data("preprocessing.steps.deduplicate=null")
    data, stream = open_data(*STREAM)
    expected, first = ids_of(whole.examples["train"]), ids_of(data.examples["train"])
    assert 20 < len(first) < 40, "rows of other splits and dropped rows are no examples"
    assert first == expected[: len(first)]
    found = list(itertools.chain.from_iterable(ids_of(stream.block(number)) for number in range(5)))
    known = itertools.cycle(expected)
    assert found == list(itertools.islice(known, len(found)))
    assert len(found) > len(expected), "the stream begins again"
    held_out = [tuple(ids) for ids, _ in ids_of([*whole.examples["test"], *whole.examples["validation"]])]
    assert not {tuple(ids) for ids, _ in found} & set(held_out)


def test_prompts_of_held_out_splits_are_left_out_of_every_block(open_data, rows, lab, capsys):
    held_out = [rows[index] for index in (60, 75, 90)]
    (lab / "test.jsonl").write_text("".join(json.dumps({**row, "output": "other"}) + "\n" for row in held_out))
    own = ["data.split=null", "+data.test.own._target_=instruct_lab.data.Files", "+data.test.own.path=test.jsonl"]
    data, stream = open_data(*STREAM, *own)
    stream._is_reporting = True
    prompts = [row["instruction"] for row in held_out]
    texts = [data._tokenizer.decode(one.input_ids) for number in (1, 2, 3) for one in stream.block(number)]
    assert len(texts) > 100
    assert not [text for text in texts for prompt in prompts if f"{prompt}\n" in text]
    assert "train prompt also in test" in capsys.readouterr().out
    allowed, stream = open_data(*STREAM, *own, "data.overlap=allow")
    texts = [allowed._tokenizer.decode(one.input_ids) for number in (1, 2, 3) for one in stream.block(number)]
    assert len([text for text in texts for prompt in prompts if f"{prompt}\n" in text]) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("part_rows", [1, 7, 500])
def test_rows_of_several_examples_are_divided_between_blocks(open_data, lab, monkeypatch, part_rows):
    monkeypatch.setattr("instruct_lab.training.example_stream.PART_ROWS", part_rows)
    tasks = ["data.format={_target_: support.several_rows.Several}"]
    whole, _ = open_data("preprocessing.steps.deduplicate=null", *tasks)
    data, stream = open_data(*STREAM, *tasks)
    expected = ids_of(whole.examples["train"])
    found = []
    for number in range(6):
        again = data._stream(is_reporting=False)
        again.load_state_dict(json.loads(json.dumps(stream.state_dict())))
        block = ids_of(stream.block(number))
        assert ids_of(again.block(number)) == block, "read from its position"
        found += block
    assert found == list(itertools.islice(itertools.cycle(expected), len(found)))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"world_size": 2, "rank": 1}], ids=["one device", "second of two"])
@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_a_loader_continues_at_every_position(open_data, monkeypatch, options, batching):
    data, stream = open_data(*STREAM, f"batching={batching}", "batching.batch_size=5")
    loader = loader_of(data, stream, **options)
    batches, states = [], []
    for epoch in range(3):
        loader.set_epoch(epoch)
        for batch in loader:
            batches.append(batch.input_ids.tolist())
            states.append(json.dumps(loader.state_dict()))
    per_epoch = len(loader)
    assert len(batches) == 3 * per_epoch
    assert batches[:per_epoch] != batches[per_epoch : 2 * per_epoch]
    for number in (1, per_epoch, per_epoch + 2, 2 * per_epoch, 2 * per_epoch + 1):
        again, reads = data._stream(is_reporting=False), []
        monkeypatch.setattr(again, "_read", counted(again._read, reads))
        fresh = loader_of(data, again, **options)
        fresh.load_state_dict(json.loads(states[number - 1]))
        found = []
        while len(found) < len(batches) - number:
            found += [batch.input_ids.tolist() for batch in fresh]
        assert found == batches[number:], f"after {number} batches"
        assert min(reads) >= number // per_epoch, "no block before the position is read again"


def test_a_source_that_gives_no_example_is_an_error_and_so_are_too_many_broken_rows(open_data, lab, rows):
    data, _ = open_data(*STREAM)
    good = (lab / "rows.jsonl").read_text().splitlines(keepends=True)
    (lab / "rows.jsonl").write_text("".join(good[:40]) + "{broken\n" * 20 + "".join(good[40:]))
    with pytest.raises(Exception, match=r"20 of \d+ rows are broken.*max_broken_share"):
        data._stream(is_reporting=False).block(1)
    empty = [json.dumps({**row, "output": ""}) + "\n" for row in rows]
    (lab / "rows.jsonl").write_text("".join(empty))
    with pytest.raises(Exception, match=r"no training example"):
        data._stream(is_reporting=False).block(1)


# ---- positions in a source


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_a_stream_of_the_hub_continues_without_reading_the_rows_before(monkeypatch, tmp_path, kind):
    for part in range(3):
        table = datasets.Dataset.from_list([{"n": 10 * part + row} for row in range(10)])
        write = table.to_json if kind == "json" else table.to_parquet
        write(str(tmp_path / f"{part}.{kind}"))
    load = datasets.load_dataset

    def load_local(repository, configuration, **options):
        files = [str(tmp_path / f"{part}.{kind}") for part in range(3)]
        return load(
            kind, data_files=files, split="train", streaming=options["streaming"], cache_dir=str(tmp_path / "c")
        )

    monkeypatch.setattr(datasets, "load_dataset", load_local)
    source = HubDataSet(repository="owner/name", revision="0" * 40, streaming=True, max_rows=5)
    rows = source.stream(tmp_path, {})
    assert [next(rows).columns["n"] for _ in range(5)] == list(range(5))
    for taken in (5, 9, 10, 11, 25, 30):
        rows = source.stream(tmp_path, {})
        list(itertools.islice(rows, taken))
        position = json.loads(json.dumps(rows.position()))
        assert position["row"] == taken
        resumed = source.stream(tmp_path, position)
        assert resumed.position() == position  # before it has read a row
        rest = list(resumed)
        assert [row.columns["n"] for row in rest] == list(range(taken, 30))
        assert [row.where for row in rest[:1]] == [f"owner/name, split train, row {n + 1}" for n in range(taken, 30)][
            :1
        ]


@pytest.mark.parametrize("taken", [0, 1, 7, 20])
def test_a_stream_of_files_continues_at_its_row(tmp_path, taken):
    for part in range(2):
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps({"n": 10 * part + row}) + "\n" for row in range(10)))
    source = Files(path=str(tmp_path / "*.jsonl"), max_rows=3)
    rows = source.stream(tmp_path, {})
    list(itertools.islice(rows, taken))
    assert [row.columns["n"] for row in source.stream(tmp_path, rows.position())] == list(range(taken, 20))


# ---- whole runs


RUN = [
    *STREAM,
    "trainer.max_epochs=4",
    "trainer.accelerator=cpu",
    "batching.batch_size=3",
    "batching.max_tokens=200",
    "callbacks.checkpoint.every_steps=3",
    "evaluation.before=false",
    "evaluation.baselines=false",
    "evaluation.during_examples=0",
]


@pytest.mark.slow
def test_a_run_that_is_killed_in_a_later_block_goes_on_with_the_same_examples(rows, lab, tiny):
    assert cli.main(["train", *tiny, *RUN]) == 0
    record = newest_run(lab)
    names = [name for name in SAME if logged(record, name)]
    expected = {name: logged(record, name) for name in names}
    steps = json.loads((record / "manifest.json").read_text())["steps_per_epoch"]
    assert len(expected["train/loss"]) == 4 * steps
    shutil.rmtree(lab / "runs")
    kill_after(command("train", *tiny, *RUN), lab, lines=2 * steps + 2)
    assert cli.main(["resume", "latest"]) == 0
    record = newest_run(lab)
    assert {name: logged(record, name) for name in names} == expected


# ---- what a stream cannot do

FILES = "{_target_: instruct_lab.data.Files, path: rows.jsonl}"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["data.stream=true"], "data.train.mine.max_rows"),
        (
            ["data.stream=true", "data.train.mine=null", "data.split=null", f"+data.test.mine={FILES}"],
            "train names none",
        ),
        ([*STREAM, "data.train.mine.shuffle_buffer=9"], "shuffle_buffer=0"),
        ([*STREAM, "+data.limit.train=9"], "limit.train"),
        ([*STREAM, f"+data.train.other={FILES}"], "mine, other"),
        ([*STREAM[:2]], "preprocessing.steps.deduplicate=null"),
        ([*STREAM, "preprocessing/step=[near_duplicates]"], "NearDuplicates needs all rows"),
        ([*STREAM, "preprocessing/step=[bias_audit]"], "BiasAudit needs all rows"),
    ],
)
def test_what_needs_all_rows_is_refused_by_name_before_anything_is_loaded(lab, tiny, capsys, overrides, named):
    assert cli.main(["train", *tiny, *overrides]) == 2
    printed = capsys.readouterr()
    assert named in " ".join((printed.out + printed.err).split())
    assert not (lab / "runs").exists()


def test_a_stream_in_a_mixture_and_a_reference_model_are_refused():
    from instruct_lab.data import DataSet, Mixture, Preference
    from instruct_lab.experiment.rules.streams import check_streamed_objective, check_streamed_parts
    from instruct_lab.objective import DPO, KTO, SimPO

    source = Files(path="rows.jsonl", max_rows=20)
    streamed, plain = (DataSet(train={"x": source}, format=Preference(), stream=stream) for stream in (True, False))
    mixed = Mixture(parts={"a": streamed, "b": plain})
    (problem,) = check_streamed_parts(mixed)
    assert problem.key == "data.parts.a.stream"
    (problem,) = check_streamed_parts(Mixture(parts={"c": plain, "d": mixed, "e": None}))
    assert problem.key == "data.parts.d.parts.a.stream"
    assert not list(check_streamed_parts(streamed))
    (problem,) = check_streamed_objective(streamed, DPO())
    assert "log-probabilities of all rows" in problem.reason
    for objective in (SimPO(), KTO(), DPO(reference="adapters_off")):
        assert not list(check_streamed_objective(streamed, objective))
    assert not list(check_streamed_objective(plain, DPO()))
