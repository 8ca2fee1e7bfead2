"""Files of a stranger run no code, write nothing and read nothing outside; each attack would leave the file `ran`."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.hanging import HANG_SECONDS

CONFIG = ["data=mine", "model=tiny_random"]
TOUCH = "touch ran"
CLASSES = {
    "os.system": {"command": TOUCH},
    "os.popen": {"cmd": TOUCH},
    "posix.system": {"command": TOUCH},
    "subprocess.Popen": {"args": TOUCH, "shell": True},
    "subprocess.run": {"args": TOUCH, "shell": True},
    "builtins.eval": {"source": "open('ran', 'w')"},
    "builtins.exec": {"source": "open('ran', 'w')"},
    "builtins.open": {"file": "ran", "mode": "w"},
    "io.FileIO": {"file": "ran", "mode": "w"},
    "pathlib.Path.touch": {"self": "ran"},
    "logging.FileHandler": {"filename": "rows.jsonl", "mode": "w"},
    "logging.config.fileConfig": {"fname": "rows.jsonl"},
    "logging.handlers.RotatingFileHandler": {"filename": "ran"},
    "timeit.Timer": {"stmt": "\r open('ran', 'w')", "setup": "pass"},
    "runpy.run_path": {"path_name": "evil.py"},
    "importlib.import_module": {"name": "evil"},
    "code.InteractiveConsole": {"filename": "evil.py"},
    "shutil.rmtree": {"path": "conf"},
    "shutil.copyfile": {"src": "rows.jsonl", "dst": "ran"},
    "sqlite3.connect": {"database": "ran"},
    "dbm.dumb.open": {"file": "ran"},
    "zipfile.ZipFile": {"file": "ran", "mode": "w"},
    "tempfile.NamedTemporaryFile": {"dir": ".", "delete": False},
    "pickle.loads": {"data": "x"},
    "torch.load": {"f": "evil.pt", "weights_only": False},
    "numpy.load": {"file": "evil.npy", "allow_pickle": True},
    "pandas.eval": {"expr": "1"},
    "hydra.utils.call": {"config": {"_target_": "os.system", "command": TOUCH}},
    "instruct_lab.files.write_json": {"path": "ran", "value": 1},
    "instruct_lab.cli.main": {"arguments": ["init", "ran"]},
    "evil.Evil": {},
    "conf.evil.Evil": {},
}


@pytest.fixture
def evil(lab):
    """The lab, with a Python file that leaves `ran` when it is imported."""
    code = "from pathlib import Path\nPath('ran').touch()\nclass Evil:\n    pass\n"
    (lab / "evil.py").write_text(code, encoding="utf-8")
    (lab / "conf" / "evil.py").write_text(code, encoding="utf-8")
    return lab


@pytest.mark.slow
@pytest.mark.parametrize("group", ["tracker", "callbacks"])
def test_a_class_out_of_nowhere_is_not_called(evil, refused, group):
    option = {f"evil{number:02}": {"_target_": name, **CLASSES[name]} for number, name in enumerate(CLASSES)}
    (evil / "conf" / group).mkdir()
    (evil / "conf" / group / "evil.yaml").write_text(json.dumps(option), encoding="utf-8")
    others = [] if group == "tracker" else ["tracker=none"]
    ending = refused("check", *CONFIG, *others, f"{group}=evil")
    assert [name for name in option if f"{group}.{name}" not in ending.err] == []
    assert all(target.rpartition(".")[0] in ending.err for target in CLASSES)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "show", "inspect", "list", "train"])
def test_python_of_the_lab_does_not_run_unasked(evil, refused, command):
    (evil / "conf" / "data" / "evil.yaml").write_text("# evil: mine\n_target_: evil.Evil\n", encoding="utf-8")
    arguments = ["data", "evil"] if command == "list" else ["data=evil", "model=tiny_random", "tracker=none"]
    refused(command, *arguments, codes=(0, 2) if command in ("list", "show") else (2,))


TEXTS = {
    "a call in YAML": "version: !!python/object/apply:os.system ['touch ran']\n",
    "an object in YAML": "version: !!python/object/new:os.system ['touch ran']\n",
    "a module in YAML": "version: !!python/module:evil\n",
    "a resolver that evaluates": "version: ${eval:\"open('ran', 'w')\"}\n",
    "a resolver that creates": 'version: ${oc.create:"{_target_: os.system, command: touch ran}"}\n',
    "a resolver that decodes": 'version: ${oc.decode:"!!python/module:evil"}\n',
    "another search path": "hydra: {searchpath: [pkg://evil]}\n",
    "a class in an argument": "split: {_target_: os.system, command: touch ran}\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_yaml_runs_nothing(evil, refused, text):
    head = "# evil: data\n_target_: instruct_lab.data.DataSet\n"
    (evil / "conf" / "data" / "evil.yaml").write_text(head + text, encoding="utf-8")
    refused("check", "data=evil", "model=tiny_random", "tracker=none", names=["evil", "data."])


OVERRIDES = [
    "name='$(touch ran)'",
    "name='`touch ran`'",
    "name='; touch ran'",
    "data._target_=os.system",
    "trainer._target_=os.system",
    "+_target_=os.system",
    "hydra.callbacks.evil._target_=evil.Evil",
    "hydra.searchpath=[pkg://evil]",
    "hydra/launcher=evil",
    "data=../../evil",
]


@pytest.mark.slow
@pytest.mark.parametrize("override", OVERRIDES)
def test_an_override_runs_nothing(evil, refused, override):
    refused("check", *CONFIG, "tracker=none", override, codes=(0, 2) if override.startswith("name=") else (2,))


JINJA = [
    "{{ cycler.__init__.__globals__.os.popen('touch ran').read() }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{% include 'evil.py' %}",
]


@pytest.mark.parametrize("template", JINJA)
def test_a_chat_template_runs_nothing(evil, refused, template):
    (evil / "evil.jinja").write_text(template, encoding="utf-8")
    (evil / "conf" / "template").mkdir()
    text = "# evil: a template\n_target_: instruct_lab.template.Chat\nfile: evil.jinja\n"
    (evil / "conf" / "template" / "evil.yaml").write_text(text, encoding="utf-8")
    refused("inspect", *CONFIG, "tracker=none", "template=evil", names=["template", "evil.jinja"])


class Touch:
    """An object whose pickle leaves `ran` when it is read."""

    def __reduce__(self):
        return os.system, (TOUCH,)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "tokenizer.json", "adapter_model.bin"])
def test_a_pickle_in_a_model_is_not_read(evil, refused, name):
    folder = evil / "model"
    folder.mkdir()
    (folder / name).write_bytes(pickle.dumps(Touch()))
    auto_map = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "evil.py").write_text((evil / "evil.py").read_text(encoding="utf-8"), encoding="utf-8")
    arguments = ["data=mine", "model=local_folder", "model.weights.path=model", "tracker=none"]
    refused("check", *arguments, codes=(0, 2))
    refused("train", *arguments, codes=(1, 2), names=["model"])


def test_a_zip_file_writes_nothing_outside(evil, refused):
    with zipfile.ZipFile(evil / "rows.jsonl.zip", "w") as archive:
        archive.writestr("../ran.jsonl", (evil / "rows.jsonl").read_text(encoding="utf-8"))
    refused("inspect", *CONFIG, "tracker=none", "data.train.mine.path=rows.jsonl.zip", codes=(0, 2))
    assert not (evil.parent / "ran.jsonl").exists()


@pytest.mark.parametrize("content", ["{}", '{"rows": {}, "name": "mine", "bytes": 5}'])
def test_clearing_the_cache_removes_no_folder_of_a_user(evil, refused, content):
    folder = evil / "mine" / ("ab" * 32)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(content, encoding="utf-8")
    (folder / "precious.txt").write_text("precious", encoding="utf-8")
    refused("cache", "clear", "--cache", "mine", codes=(0, 2))


@pytest.mark.slow
def test_files_of_the_working_directory_are_no_libraries(evil):
    names = ["torch_xla", "mlflow", "tensorboard", "comet_ml", "neptune", "sitecustomize", "usercustomize", "yaml"]
    for name in [*names, "torch", "rich", "numpy", "transformers", "habana_frameworks", "deepspeed"]:
        (evil / f"{name}.py").write_text((evil / "evil.py").read_text(encoding="utf-8"), encoding="utf-8")
    program = Path(sys.executable).parent / "instruct-lab"
    done = subprocess.run(
        [program, "inspect", *CONFIG, "tracker=none"], capture_output=True, timeout=HANG_SECONDS, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not (evil / "ran").exists()
