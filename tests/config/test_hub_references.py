"""`model=hub:` and `data=hub:` with a stub of the Hub; in processes of their own, since its settings are read once."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
from support.hub_server import COMMIT, hub_server

PROGRAM = textwrap.dedent(
    """
    import json, sys
    from omegaconf import OmegaConf
    from instruct_lab.config.references import reference_notes
    from instruct_lab.experiment.check import check

    for overrides in json.loads(sys.argv[1]):
        checked = check([*overrides, "tracker=none"])
        config = OmegaConf.to_container(checked.composition.config, resolve=False)
        problems = list(map(str, checked.problems))
        notes = reference_notes(checked.composition.choices)
        result = {"problems": problems, "notes": notes, "data": config["data"], "model": config["model"]}
        print("result", json.dumps(result))
    """
)


def write_lines(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_model(folder, **settings):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def hub(tmp_path):
    """Checks configs in one process that uses a stub of the Hub; gives the result of each."""
    rows = [{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(12)]
    for split in ("train_sft", "train_gen", "test_gen", "test_sft"):
        write_lines(tmp_path / "rows" / "data" / f"{split}.jsonl", rows)
    card = ["---", "configs:"]
    for split in ("train_sft", "train_gen", "test_gen", "test_sft"):
        lines = [f"  - split: {split}", f"    path: data/{split}.jsonl"]
        card += ["- config_name: default", "  data_files:", *lines] if split == "train_sft" else lines
    (tmp_path / "rows" / "README.md").write_text("\n".join([*card, "---", ""]))
    parts = ["---", "configs:"]
    for name in ("easy", "hard"):
        write_lines(tmp_path / "parts" / name / "train.jsonl", [{"text": f"{name} {n}"} for n in range(5)])
        parts += [f"- config_name: {name}", f"  data_files: {name}/train.jsonl"]
    (tmp_path / "parts" / "README.md").write_text("\n".join([*parts, "---", ""]))
    write_lines(tmp_path / "odd" / "train.jsonl", [{"headline": "a", "story": "b"}])
    repositories = {
        "datasets/owner/rows": tmp_path / "rows",
        "datasets/owner/parts": tmp_path / "parts",
        "datasets/owner/odd": tmp_path / "odd",
        "owner/decoder": write_model(tmp_path / "decoder", architectures=["LlamaForCausalLM"], model_type="llama"),
        "owner/t5": write_model(tmp_path / "t5", architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True),
        "owner/bert": write_model(tmp_path / "bert", architectures=["ModernBertForMaskedLM"], model_type="modernbert"),
        "owner/adapter": tmp_path / "adapter",
    }
    write_lines(tmp_path / "adapter" / "adapter_config.json", [{"base_model_name_or_path": "owner/decoder"}])

    def run(*configs, **environment):
        with hub_server(repositories, gated=("owner/gated",)) as served:
            settings = {**os.environ, **served, "HF_HOME": str(tmp_path / "home"), **environment}
            command = [sys.executable, "-c", PROGRAM, json.dumps(configs)]
            done = subprocess.run(command, env=settings, cwd=tmp_path, capture_output=True, text=True, check=True)
        return [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("result ")]

    return run


@pytest.mark.slow
def test_models_of_the_hub_have_their_family_and_commit(hub) -> None:
    decoder, t5, bert, tagged, *refused = hub(
        ["model=hub:owner/decoder"],
        ["model=hub:owner/t5", "template=contents"],
        ["model=hub:owner/bert"],
        [f"model=hub:owner/decoder@{COMMIT}"],
        ["model=hub:owner/gated"],
        ["model=hub:owner/unknown"],
        ["model=hub:owner/decoder@v9"],
        ["model=hub:owner/adapter"],
    )
    weights = {"_target_": "instruct_lab.model.Hub", "repository": "owner/decoder", "revision": COMMIT}
    assert decoder["problems"] == tagged["problems"] == t5["problems"] == []
    assert decoder["model"] == tagged["model"]
    assert (decoder["model"]["_target_"], decoder["model"]["weights"]) == ("instruct_lab.model.Decoder", weights)
    assert f"main is commit {COMMIT[:12]}" in decoder["notes"][0]
    assert "main" not in tagged["notes"][0]
    assert t5["model"]["_target_"] == "instruct_lab.model.EncoderDecoder"
    assert bert["model"]["_target_"] == "instruct_lab.model.Encoder"
    assert "objective=masked" in bert["notes"][0]
    expected = ("is gated", "no such model repository", "no such revision", "holds only an adapter")
    for result, text in zip(refused, expected, strict=True):
        (problem,) = result["problems"]
        assert text in problem


@pytest.mark.slow
def test_data_sets_of_the_hub_have_their_format_splits_and_commit(hub) -> None:
    rows, part, unnamed, odd, chosen, unknown = hub(
        ["data=hub:owner/rows"],
        ["data=hub:owner/parts:hard@main", "template=plain"],
        ["data=hub:owner/parts"],
        ["data=hub:owner/odd"],
        [
            "data=hub:owner/odd",
            "data.format={_target_:instruct_lab.data.Columns,prompt:'{headline}',completion:'{story}'}",
        ],
        ["data=hub:owner/unknown"],
    )
    assert rows["problems"] == []
    source = {"_target_": "instruct_lab.data.HubDataSet", "repository": "owner/rows", "revision": COMMIT}
    assert rows["data"]["train"] == {"hub": source | {"split": "train_sft"}}
    assert rows["data"]["test"] == {"hub": source | {"split": "test_sft"}}
    assert rows["data"]["split"]["validation"] == 0.1
    assert rows["data"]["format"]["_target_"] == "instruct_lab.data.PromptCompletion"
    assert "splits not read: train_gen, test_gen" in rows["notes"][1]
    assert part["problems"] == []
    assert part["data"]["train"]["hub"]["configuration"] == "hard"
    assert part["data"]["format"] == {"_target_": "instruct_lab.data.PlainText"}
    assert "hub:owner/parts:CONFIGURATION" in unnamed["problems"][0]
    assert "hard" in unnamed["problems"][0]
    assert "columns headline, story fit no known format" in odd["problems"][0]
    assert chosen["problems"] == []
    assert "no such data set repository" in unknown["problems"][0]


@pytest.mark.slow
def test_what_was_used_before_is_found_without_the_hub(hub) -> None:
    config = ["model=hub:owner/decoder", "template=chat"]
    (online,) = hub(config)
    (offline,) = hub(config, HF_HUB_OFFLINE="1")
    (unreachable,) = hub(config, HF_ENDPOINT="http://127.0.0.1:9")
    assert offline["problems"] == unreachable["problems"] == []
    assert online["model"] == offline["model"] == unreachable["model"]
    assert "cannot be reached" in unreachable["notes"][0]
    known, unknown = hub(["model=hub:Qwen/Qwen3-8B"], ["model=hub:owner/other"], HF_ENDPOINT="http://127.0.0.1:9")
    assert known["problems"] == []
    assert "as model=qwen3_8b_hub" in known["notes"][0]
    assert "The Hub cannot be reached" in unknown["problems"][0]
