"""PEFT loads bitsandbytes only for models with its layers, and answers as before in all other cases."""

import json
import subprocess
import sys

import pytest

PRELUDE = """
import json, os, sys, pathlib, torch
from instruct_lab.model import Decoder, Quantization, Random, Tokenizer
from instruct_lab.tuning import LoRA
from instruct_lab.tuning.adapters import VeRA
from instruct_lab.tuning.peft_library import load_peft, without_quantizer

SIZE = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4,
            max_position_embeddings=64)

def load(**fields):
    chosen = Decoder(weights=Random(settings=SIZE), tokenizer=Tokenizer(), **fields)
    return chosen.load(chosen.load_tokenizer(folder), folder)

def is_loaded():
    return "bitsandbytes" in sys.modules

def layers(loaded):
    return sorted({type(m).__module__ for m in loaded.model.modules() if "peft.tuners" in type(m).__module__})

folder = pathlib.Path(sys.argv[1])
for name, code in json.load(sys.stdin).items():
    process = os.fork()
    if process == 0:
        path, report = folder / name, {}
        path.mkdir()
        exec(code)
        (path / "report.json").write_text(json.dumps(report))
        sys.stdout.flush()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, name
"""
"""Runs each code in a process forked before PEFT is imported, which happens once in a process."""
CODES = {
    "unquantised": """
for number, method in enumerate([LoRA(), LoRA(use_dora=True), VeRA()]):
    tuned = method.apply(load())
    tuned.model(input_ids=torch.ones(1, 4, dtype=torch.long)).logits.sum().backward()
    method.save(tuned, path / f"adapter-{number}")
    method.load(load(), path / f"adapter-{number}")
    method.merge(tuned)
    report[number] = is_loaded()
""",
    "quantised": """
report["plain"] = layers(LoRA().apply(load()))
report["before"] = is_loaded()
for bits in ("4bit", "8bit"):
    report[bits] = [name for name in layers(LoRA().apply(load(quantization=bits))) if name.endswith("bnb")]
report["plain again"] = layers(LoRA().apply(load()))
""",
    "found": """
peft = load_peft()
from peft import import_utils, helpers
from transformers.utils import is_bitsandbytes_available
with without_quantizer(peft.LoraConfig()):
    report["inside"] = [import_utils.is_bnb_available(), import_utils.is_bnb_4bit_available()]
    report["others"] = is_bitsandbytes_available()
with without_quantizer(peft.LoraConfig(init_lora_weights="loftq", loftq_config=peft.LoftQConfig())):
    report["loftq"] = import_utils.is_bnb_available()
report["loaded"] = is_loaded()
report["function"] = helpers.bnb.functional.dequantize_4bit.__module__
import bitsandbytes, bitsandbytes.nn
report["same"] = helpers.bnb.functional is bitsandbytes.functional
report["after"] = [import_utils.is_bnb_available(), import_utils.is_bnb_4bit_available()]
""",
    "absent": """
class Absent:
    def find_spec(self, name, path, target=None):
        if name == "bitsandbytes": raise ModuleNotFoundError(name)
import importlib.machinery, importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "bitsandbytes" else real(name, *rest)
sys.meta_path.insert(0, Absent())
report["layers"] = layers(LoRA().apply(load()))
from peft import helpers
report["bnb"] = helpers.bnb
""",
}
PLAIN = ["peft.tuners.lora.layer", "peft.tuners.lora.model"]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The dictionary `report` of each code."""
    folder = tmp_path_factory.mktemp("reports")
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE, str(folder)],
        input=json.dumps(CODES),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: json.loads((folder / name / "report.json").read_text()) for name in CODES}


@pytest.mark.slow
def test_a_model_without_quantised_layers_loads_no_bitsandbytes(reports):
    assert reports["unquantised"] == {"0": False, "1": False, "2": False}


@pytest.mark.slow
def test_a_quantised_model_gets_the_adapters_of_its_layers_after_an_unquantised_one(reports):
    found = reports["quantised"]
    assert found["before"] is False
    assert found["4bit"] == found["8bit"] == ["peft.tuners.lora.bnb"]
    assert found["plain"] == found["plain again"] == PLAIN


@pytest.mark.slow
def test_peft_finds_bitsandbytes_wherever_it_needs_it(reports):
    assert reports["found"] == {
        "inside": [False, False],
        "others": True,
        "loftq": True,
        "loaded": False,
        "function": "bitsandbytes.functional",
        "same": True,
        "after": [True, True],
    }


@pytest.mark.slow
def test_peft_loads_where_bitsandbytes_is_not_installed(reports):
    assert reports["absent"] == {"layers": PLAIN, "bnb": None}
