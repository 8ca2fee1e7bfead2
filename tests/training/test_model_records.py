"""The record of a model that no run trained is found again if it is complete, and otherwise created."""

import json

import pytest

from instruct_lab.experiment.check import check
from instruct_lab.training.model_records import UNCHANGED, record_of_model


@pytest.mark.slow
def test_only_a_complete_record_of_the_same_files_is_found_again(lab):
    (lab / "folder").mkdir()
    (lab / "folder" / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    weights = lab / "folder" / "model.safetensors"
    weights.write_bytes(b"")
    records = []

    def find():
        checked = check(["model=path:folder", "data=mine", *UNCHANGED]).or_refuse()
        return record_of_model("path:folder", checked).path

    def is_new():
        records.append(find())
        return records[-1] not in records[:-1] and find() == records[-1]

    assert is_new()
    (records[-1] / "manifest.json").write_text("{")  # damaged
    assert is_new()
    manifest = records[-1] / "manifest.json"
    entries = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**entries, "status": "running"}))  # killed before its files were written
    assert is_new()
    weights.write_bytes(b"other")
    assert is_new()
