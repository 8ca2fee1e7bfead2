"""Folders, the Hub and random weights: what loads, and the errors of what cannot."""

import json
import os
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pydantic
import pytest
import torch
from safetensors.torch import load_file, save_file

from instruct_lab.errors import InstructLabError
from instruct_lab.model import GGUF, Decoder, Hub, LocalFolder, Random, Tokenizer


def local(path, **fields):
    return Decoder(weights=LocalFolder(path=str(path)), **fields)


def load(made, cache):
    return made.load(made.load_tokenizer(cache), cache).model


def test_saved_folder_loads_as_it_was(tiny, folder, tmp_path):
    tokenizer, model = tiny()
    again = load(local(folder), tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not again.training
    assert (
        local(folder).load_tokenizer(tmp_path)("é 12 <|im_end|>")["input_ids"] == tokenizer("é 12 <|im_end|>").input_ids
    )


def test_missing_folder_and_folder_without_a_model_are_problems(tmp_path):
    (problem,) = LocalFolder(path=str(tmp_path / "nowhere")).problems()
    assert problem.key == "path"
    (problem,) = LocalFolder(path=str(tmp_path)).problems()
    assert "config.json" in problem.reason
    (tmp_path / "adapter_config.json").write_text("{}")
    (problem,) = LocalFolder(path=str(tmp_path)).problems()
    assert "adapter" in problem.reason


@pytest.mark.parametrize("method", ["load_tokenizer", "inputs"])
def test_missing_folder_is_one_error(tmp_path, method):
    with pytest.raises(InstructLabError, match="no such folder"):
        getattr(local(tmp_path / "nowhere"), method)(tmp_path)


def test_folder_without_weights_is_an_error(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InstructLabError, match="no weights"):
        load(local(folder), tmp_path)
    with pytest.raises(InstructLabError, match="no weights"):
        local(folder).inputs(tmp_path)


def test_pickled_weights_are_refused_unless_allowed(folder, tmp_path):
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(InstructLabError, match=r"pickled.*allow_pickle=true"):
        load(local(folder), tmp_path)
    model = load(local(folder, allow_pickle=True), tmp_path)
    assert torch.equal(model.model.norm.weight, state["model.norm.weight"])


def test_weights_that_lack_a_tensor_are_refused_not_drawn_at_random(folder, tmp_path):
    state = load_file(folder / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InstructLabError, match=r"lack 1 .*up_proj"):
        load(local(folder), tmp_path)


def test_damaged_weights_are_one_error(folder, tmp_path):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InstructLabError, match="cannot be loaded"):
        load(local(folder), tmp_path)


@pytest.mark.parametrize("content", ["{", '{"model_type": "nothing_known"}'])
def test_broken_config_is_one_error(folder, tmp_path, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(InstructLabError, match="cannot be loaded"):
        load(local(folder), tmp_path)


def test_folder_without_a_tokenizer_is_one_error(folder, tmp_path):
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(InstructLabError, match="tokenizer"):
        local(folder).load_tokenizer(tmp_path)


def test_inputs_of_a_folder_are_its_config_and_weights(folder, tmp_path):
    names = [found.name for found in local(folder).inputs(tmp_path)]
    assert names == ["saved/config.json", "saved/model.safetensors"]


def test_own_generation_defaults_of_a_checkpoint_are_left_out(folder, tmp_path):
    config = {"temperature": 0.1, "do_sample": True, "top_k": 3, "eos_token_id": [258, 7], "max_length": 9}
    (folder / "generation_config.json").write_text(json.dumps(config))
    own = load(local(folder), tmp_path).generation_config
    assert (own.temperature, own.do_sample, own.top_k, own.max_length) == (None, None, None, None)
    assert own.eos_token_id == [258, 7]


def test_tokenizer_class_does_not_replace_what_tokenizer_json_says(folder, tmp_path):
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer = local(folder).load_tokenizer(tmp_path)
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "GPT2Tokenizer"}))
    again = local(folder).load_tokenizer(tmp_path)
    assert type(again).__name__ == "GPT2Tokenizer"
    split = again.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a12")
    assert [text for text, _ in split] == ["a", "1", "2"]


def test_saved_tokenizer_holds_no_trace_of_this_machine(folder, tmp_path):
    local(folder).load_tokenizer(tmp_path).save_pretrained(tmp_path / "out")
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert not {"is_local", "local_files_only", "name_or_path"} & set(config)


# ---- random weights


def test_random_weights_follow_their_seed_alone(tmp_path):
    def weights(seed):
        made = Decoder(
            weights=Random(settings={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}, seed=seed)
        )
        return made.load(made.load_tokenizer(tmp_path), tmp_path).model.model.layers[0].self_attn.q_proj.weight

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weights(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))


def test_tiny_random_option_has_a_few_thousand_parameters(tmp_path):
    import yaml

    config = yaml.safe_load((Path(__file__).parents[2] / "conf/model/tiny_random.yaml").read_text())
    weights = {name: value for name, value in config["weights"].items() if name != "_target_"}
    made = Decoder(weights=Random(**weights))
    model = made.load(made.load_tokenizer(tmp_path), tmp_path).model
    assert 2_000 < sum(p.numel() for p in model.parameters()) < 20_000


@pytest.mark.parametrize("text", ["plain", "  spaces\n\n", "naïve €", "漢字 🙂", "", "\x00\x7f", "<|im_end"])
def test_byte_tokenizer_gives_every_text_back(tiny, text):
    tokenizer, _ = tiny()
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text


def test_byte_tokenizer_renders_chatml(tiny):
    tokenizer, _ = tiny()
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer(text)["input_ids"].count(tokenizer.eos_token_id) == 1


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (Random(architecture="lama"), "llama"),
        (Random(settings={"hiden_size": 8}), "hidden_size"),
        (Random(settings={"hidden_size": 10, "num_attention_heads": 4}), "settings"),
    ],
)
def test_settings_that_make_no_model_are_one_error(tmp_path, weights, said):
    made = Decoder(weights=weights)
    with pytest.raises(InstructLabError, match=said):
        load(made, tmp_path)


# ---- declarations


@pytest.mark.parametrize("fields", [{}, {"path": "a.gguf", "asset": None, "file": "b"}, {"path": ""}])
def test_gguf_needs_one_place(fields):
    with pytest.raises(pydantic.ValidationError):
        GGUF(**fields)


def test_gguf_path_is_checked_before_loading(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"no such thing")
    assert "no such file" in next(iter(GGUF(path=str(tmp_path / "none.gguf")).problems())).reason
    assert "no GGUF file" in next(iter(GGUF(path=str(tmp_path / "a.gguf")).problems())).reason
    with pytest.raises(InstructLabError, match="no GGUF file"):
        Decoder(weights=GGUF(path=str(tmp_path / "a.gguf"))).load_tokenizer(tmp_path)


def test_attention_that_is_not_installed_is_a_problem():
    (problem,) = Decoder(weights=Random(), attention="flash_attention_2").problems()
    assert problem.key == "attention"


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_types_that_cannot_train_are_refused(dtype):
    with pytest.raises(pydantic.ValidationError):
        Decoder(weights=Random(), dtype=dtype)


# ---- the Hub


def test_hub_that_is_switched_off_is_one_error(tmp_path):
    with pytest.raises(InstructLabError, match=r"HF_HUB_OFFLINE.*Where: nobody/nothing"):
        Decoder(weights=Hub(repository="nobody/nothing")).load_tokenizer(tmp_path)


class _FakeHub(BaseHTTPRequestHandler):
    """Answers as the Hub does for repositories that are unknown, gated, or lack a revision."""

    def do_GET(self):
        repository = self.path.split("/")[4] if self.path.count("/") > 3 else ""
        status, code = {"gated": (403, "GatedRepo"), "moved": (404, "RevisionNotFound")}.get(
            repository, (404, "RepoNotFound")
        )
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_hub_errors_have_different_messages(tmp_path):
    server = HTTPServer(("127.0.0.1", 0), _FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = textwrap.dedent(
        """
        from pathlib import Path
        from instruct_lab.errors import InstructLabError
        from instruct_lab.model import Hub
        for name in ("unknown", "gated", "moved"):
            try:
                Hub(repository=f"somebody/{name}", revision="v1").load_tokenizer(Path("."), False, "decoder")
            except InstructLabError as error:
                print(name, "|", error)
        """
    )
    hub = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path)}
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"), "")
    environment = {**os.environ, **proxies, **hub, "NO_PROXY": "*", "HF_TOKEN": "none"}
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    finally:
        server.shutdown()
    messages = dict(line.split(" | ", 1) for line in done.stdout.strip().splitlines())
    assert "no such model repository" in messages["unknown"]
    assert "gated" in messages["gated"]
    assert "no such revision" in messages["moved"]


@pytest.fixture
def hub_cache(folder, tmp_path, monkeypatch):
    """The Hub's cache as a download leaves it: large files named by their SHA-256."""
    import hashlib

    import huggingface_hub.constants

    commit = "0123456789" * 4
    home = tmp_path / "hub"
    repository = home / "models--somebody--tiny"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (repository / "blobs").mkdir()
    for file in folder.iterdir():
        blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(blob)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(home))
    return snapshot


def test_hub_model_loads_from_its_cache_and_is_named_by_its_commit(hub_cache, tiny, tmp_path):
    import hashlib

    made = Decoder(weights=Hub(repository="somebody/tiny"))
    model = load(made, tmp_path)
    _, expected = tiny()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))
    assert model.name_or_path == "somebody/tiny"
    (found,) = made.inputs(tmp_path)
    assert found.name == f"somebody/tiny@{hub_cache.name}/model.safetensors"
    assert found.sha256 == hashlib.sha256((hub_cache / "model.safetensors").read_bytes()).hexdigest()


def test_tokenizer_of_another_source(folder, tmp_path):
    from tokenizers import AddedToken

    other = local(folder).load_tokenizer(tmp_path)
    other.add_tokens([AddedToken("<mark>", special=True)])
    other.save_pretrained(tmp_path / "other")
    made = Decoder(weights=LocalFolder(path=str(folder)), tokenizer=Tokenizer(source=str(tmp_path / "other")))
    tokenizer = made.load_tokenizer(tmp_path)
    loaded = made.load(tokenizer, tmp_path)
    assert tokenizer.convert_tokens_to_ids("<mark>") == 259
    assert loaded.model.get_input_embeddings().weight.shape[0] == 260
    assert loaded.added_token_ids == (259,)
