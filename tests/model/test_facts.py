"""What is known of a model before it is loaded: without network, without torch, and as the loaded model has it."""

import re
import subprocess
import sys

import pytest
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from instruct_lab.assets import PackageAsset
from instruct_lab.config.options import options
from instruct_lab.experiment.matrix import component_of
from instruct_lab.model import GGUF, Decoder, EncoderDecoder, LocalFolder, ModelFacts, Random
from instruct_lab.model.facts import WITH_BIASES, WITHOUT_BIASES, facts_of_config, least_parameters
from instruct_lab.model.family import family_of_settings

RANDOM = [option.name for option in options("model") if option.name.startswith(("tiny_", "small_"))]


def has_biases(model):
    return any(name.rpartition(".")[2] == "bias" for name, _ in model.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize("option", RANDOM)
def test_facts_of_random_weights_are_those_of_the_loaded_model(option, tmp_path):
    made = component_of("model", option)
    facts, model = made.facts(tmp_path), made.load(made.load_tokenizer(tmp_path), tmp_path).model
    assert facts.hidden_size == model.config.hidden_size
    assert facts.has_biases is has_biases(model)
    limited = model.config.model_type in ("bert", "bart")
    assert facts.max_positions == (model.config.max_position_embeddings if limited else None)


def test_a_text_as_long_as_the_table_runs_and_a_longer_one_does_not(tmp_path):
    made = component_of("model", "tiny_encoder")
    model = made.load(made.load_tokenizer(tmp_path), tmp_path).model
    longest = made.facts(tmp_path).max_positions
    model(input_ids=torch.ones(1, longest, dtype=torch.long))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.ones(1, longest + 1, dtype=torch.long))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted(WITH_BIASES | WITHOUT_BIASES))
def test_known_architectures_have_the_biases_and_tables_that_are_declared(architecture):
    few = dict.fromkeys(("num_hidden_layers", "encoder_layers", "decoder_layers", "num_layers", "n_layer"), 2)
    config = transformers.AutoConfig.for_model(architecture)
    few = {name: count for name, count in few.items() if name in config.to_dict()}
    if architecture == "gpt_neo":
        few["attention_types"] = [[["global", "local"], 1]]
    config = transformers.AutoConfig.for_model(architecture, **few)
    kind = "MaskedLM" if architecture in MODEL_FOR_MASKED_LM_MAPPING_NAMES else "CausalLM"
    auto = getattr(transformers, "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else f"AutoModelFor{kind}")
    with torch.device("meta"):
        model = auto.from_config(config)
    facts = facts_of_config(config.to_dict())
    assert facts.has_biases is has_biases(model)
    names = (".position_embeddings.weight", "embed_positions.weight", ".wpe.weight", ".positions_embed.weight")
    rows = [len(value) for name, value in model.named_parameters() if name.endswith(names)]
    assert facts.max_positions is None if not rows else facts.max_positions in (None, rows[0], rows[0] - 2)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "llama", "hidden_size": 8, "attention_bias": True}, ModelFacts(hidden_size=8, has_biases=True)),
        (
            {"model_type": "deberta-v2", "n_positions": 9, "position_biased_input": False},
            ModelFacts(has_biases=True, can_pack=False),
        ),
        ({"model_type": "never_seen", "hidden_size": 8}, ModelFacts(hidden_size=8)),
        ({"model_type": "gemma3", "text_config": {"hidden_size": 4}}, ModelFacts(hidden_size=4)),
        ({}, ModelFacts()),
    ],
    ids=str,
)  # fmt: skip
def test_settings_decide_and_what_is_unknown_stays_unknown(config, expected):
    assert facts_of_config(config) == expected


def test_facts_of_a_folder(folder, tmp_path):
    made = Decoder(weights=LocalFolder(path=str(folder)))
    assert made.facts(tmp_path) == ModelFacts(hidden_size=32, has_biases=False)
    (folder / "config.json").write_text("{")
    assert made.facts(tmp_path) == ModelFacts()


def test_facts_of_a_gguf_file_are_those_of_its_header(write_gguf, tmp_path):
    file, _ = write_gguf()
    made = Decoder(weights=GGUF(path=str(file)))
    assert made.facts(tmp_path) == ModelFacts(hidden_size=32, has_biases=False)
    content = file.read_bytes()
    file.write_bytes(content[:200])
    assert made.facts(tmp_path) == ModelFacts()


def test_declared_facts_hold_until_files_tell_otherwise(folder, tmp_path):
    declared = ModelFacts(hidden_size=7, max_positions=9)
    asset = PackageAsset(package="thing", version="1", sha256="0" * 64, path="a.gguf", path_sha256="1" * 64)
    assert Decoder(weights=GGUF(asset=asset), declared_facts=declared).facts(tmp_path) == declared
    downloaded = Decoder(weights=LocalFolder(path=str(folder)), declared_facts=declared)
    assert downloaded.facts(tmp_path).hidden_size == 32


NEEDS_A_NAME = re.compile("local|hub(_|$)")
"""Matches options whose model the user names."""


@pytest.mark.slow
@pytest.mark.parametrize("option", [option.name for option in options("model") if not NEEDS_A_NAME.match(option.name)])
def test_every_option_knows_its_model_before_it_is_downloaded(option, tmp_path):
    facts = component_of("model", option).facts(tmp_path / "empty")
    assert facts.hidden_size
    assert facts.has_biases is not None


@pytest.mark.slow
def test_the_default_model_is_known_without_a_heavy_library(tmp_path):
    code = (
        "import sys, pathlib; from instruct_lab.experiment.matrix import component_of; "
        f"print(component_of('model', 'smollm2_135m').facts(pathlib.Path({str(tmp_path)!r}))); "
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    facts = "ModelFacts(hidden_size=576, max_positions=None, has_biases=False, can_pack=None)"
    assert done.stdout.splitlines() == [facts, "[]"]


def test_an_encoder_decoder_of_unknown_settings_is_no_error(tmp_path):
    assert EncoderDecoder(weights=Random(architecture="bart")).facts(tmp_path) == ModelFacts(has_biases=True)


@pytest.mark.parametrize("value", [5, [1], "text", True, {"a": 1}])
def test_settings_of_wrong_types_are_unknown(value):
    config = {"model_type": "llama", **dict.fromkeys(["architectures", "text_config", "hidden_size"], value)}
    assert facts_of_config(config).has_biases is False
    assert family_of_settings(config, "a model") == "decoder"
    assert least_parameters(config) == 0
    assert least_parameters({"model_type": [value]}) == 0
