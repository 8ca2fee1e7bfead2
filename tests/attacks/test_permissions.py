"""A stranger's option file, record or lab cannot run code or use a library without the user's permission."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.records import newest_run

import instruct_lab
from instruct_lab import cli
from instruct_lab.config import lab_code, permissions, permitted
from instruct_lab.config.external import find_class, name_needing_permission
from instruct_lab.config.user_settings import settings_path
from instruct_lab.experiment.check import check

CHOSEN = ["data=mine", "model=tiny_random"]
STATEMENT = "pass\rimport os; os.system('touch owned')\rdef inner(_it, _timer):\r    if 1:\r        pass"
TIMER = {"_target_": "timeit.Timer", "stmt": STATEMENT}
COMPONENT = """
from pathlib import Path
from instruct_lab.config import Component, component

Path("owned").touch()

@component
class Evil(Component):
    '''Evil.'''
"""
ATTACKS = {
    "a timer with code after a carriage return": TIMER,
    "a handler that empties a file": {"_target_": "logging.FileHandler", "filename": "precious.txt", "mode": "w"},
    "a frozen module": {"_target_": "os.system", "command": "touch owned"},
    "a built-in function": {"_target_": "builtins.eval", "source": "open('owned', 'w')"},
    "a frozen module with a class": {"_target_": "zipimport.zipimporter", "path": "owned"},
    "a module reached through this package": {"_target_": "instruct_lab.files.os.system", "command": "touch owned"},
    "a class reached through this package": {"_target_": "instruct_lab.files.Path", "args": "owned"},
    "a function of this package": {"_target_": "instruct_lab.files.append_text", "path": "owned", "text": "x"},
    "a method of this package": {"_target_": "instruct_lab.records.RunRecord.create", "name": "owned"},
    "a module reached through Lightning": {
        "_target_": "pytorch_lightning.loggers.csv_logs.os.system",
        "command": "touch owned",
    },
    "a class that Lightning imports": {"_target_": "pytorch_lightning.loggers.csv_logs.Namespace"},
    "a writer that is no logger": {
        "_target_": "pytorch_lightning.loggers.csv_logs.ExperimentWriter",
        "log_dir": "owned",
    },
    "a logger of another part of Lightning": {"_target_": "lightning_fabric.loggers.CSVLogger", "root_dir": "owned"},
    "a process": {"_target_": "subprocess.Popen", "args": ["touch", "owned"]},
    "a method of a class": {"_target_": "pathlib.Path.touch", "self": "owned"},
    "a component of a lab": {"_target_": "evil.Evil"},
    "a path": {"_target_": "/nowhere/evil.Evil"},
    "a class inside an argument": {
        "_target_": "pytorch_lightning.loggers.CSVLogger",
        "save_dir": "{run_path}",
        "prefix": {"deep": [TIMER]},
    },
}


def refusals(capsys, *arguments):
    """Run a command that refuses its config; returns its output."""
    assert cli.main(list(arguments)) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return printed.out + printed.err


@pytest.fixture
def attacked(lab):
    (lab / "precious.txt").write_text("precious")
    (lab / "evil.py").write_text(COMPONENT)
    for group in ("tracker", "callbacks"):
        (lab / "conf" / group).mkdir()
    yield lab
    assert not (lab / "owned").exists()
    assert (lab / "precious.txt").read_text() == "precious"


@pytest.mark.slow
@pytest.mark.parametrize("group", ["tracker", "callbacks"])
def test_classes_that_are_not_allowed_are_refused_and_not_imported(attacked, capsys, group):
    bad = {f"bad{number:02}": attack for number, attack in enumerate(ATTACKS.values())}
    (attacked / "conf" / group / "bad.yaml").write_text("# bad: bad\n" + yaml.safe_dump(bad))
    for command in ("check", "show", "inspect", "train") if group == "tracker" else ("check",):
        printed = refusals(capsys, command, *CHOSEN, f"{group}=bad")
        assert [name for name in bad if f"{group}.{name}" not in printed] == [], command
    assert cli.main(["list", group, "bad"]) == 0
    assert not (attacked / "runs").exists()


@pytest.mark.slow
def test_a_permission_for_a_class_names_the_module_that_defines_it(attacked, capsys):
    chosen = ["check", *CHOSEN, "+tracker.bad={_target_: http.client.HTTPConnection, host: x}"]
    assert "--allow http.client.HTTPConnection" in refusals(capsys, *chosen)
    for too_little in ("http.cli", "http.client.HTTP", "http.server"):
        refusals(capsys, *chosen, "--allow", too_little)
    for enough in ("http", "http.client", "http.client.HTTPConnection"):
        assert cli.main([*chosen, "--allow", enough]) == 0
    refusals(capsys, *chosen)


def test_classes_of_lightning_are_allowed_in_their_own_group_only():
    loggers = ["CSVLogger", "TensorBoardLogger", "MLFlowLogger", "WandbLogger", "CometLogger"]
    callbacks = ["EarlyStopping", "ModelCheckpoint", "RichProgressBar", "StochasticWeightAveraging", "Timer"]
    strategies = ["DDPStrategy", "FSDPStrategy", "DeepSpeedStrategy", "SingleDeviceStrategy"]
    plugins = ["MixedPrecision", "environments.SLURMEnvironment", "io.AsyncCheckpointIO"]
    known = {"tracker": ("loggers", loggers), "callbacks": ("callbacks", callbacks)}
    for group, (package, names) in [
        *known.items(),
        ("trainer", ("strategies", strategies)),
        ("trainer", ("plugins", plugins)),
    ]:
        for name in names:
            found = find_class(f"pytorch_lightning.{package}.{name}")
            allowed_in = [one for one in ("trainer", *known) if name_needing_permission(*found, one) is None]
            assert allowed_in == [group], name


@pytest.mark.slow
@pytest.mark.parametrize("attack", [TIMER, {"_target_": "evil.Evil"}, ATTACKS["a process"]])
def test_a_stranger_s_record_is_refused_by_every_command(attacked, capsys, attack):
    resolved = {**check(CHOSEN).resolved, "tracker": {"bad": attack}}
    record = attacked / "runs" / "foreign" / "20260101-000000-abcd"
    record.mkdir(parents=True)
    (record / "config.yaml").write_text(yaml.safe_dump(resolved))
    (record / "manifest.json").write_text(json.dumps({"id": record.name, "name": "foreign", "status": "interrupted"}))
    for command in ("resume", "reproduce"):
        assert "tracker.bad._target_" in refusals(capsys, command, str(record))
    for command, argument in (("generate", "hello"), ("export", "out")):  # they build no tracker
        assert "no best weights" in refusals(capsys, command, str(record), argument)


FIELDS = [
    ("model.trust_remote_code", "remote-code", "model"),
    ("model.allow_pickle", "pickle", "model"),
    ("metrics.pass_at_1.allow_execution", "execution", "metrics"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("key", "permission", "group"), FIELDS)
def test_a_file_cannot_consent_but_the_user_can(lab, monkeypatch, capsys, key, permission, group):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(lab / "settings"))
    study = {"pass_at_1": {"_target_": "instruct_lab.metrics.PassAtK", "allow_execution": True}}
    content = {"metrics": study} if group == "metrics" else {"model": {key.rpartition(".")[2]: True}}
    (lab / "experiments").mkdir()
    (lab / "experiments" / "study.yaml").write_text("# study: a study\n" + yaml.safe_dump(content))
    chosen = ["check", *CHOSEN, "experiments=study"]
    text = refusals(capsys, *chosen)
    assert f"{key} = True" in text
    assert f"--allow {permission}" in text
    others = [name for name in permissions.PERMISSIONS if name != permission]
    refusals(capsys, *chosen, *(f"--allow={name}" for name in others))
    assert cli.main([*chosen, "--allow", permission]) == 0
    assert cli.main([*chosen, f"{key}=true"]) == 0
    refusals(capsys, *chosen)
    assert cli.main(["allow", permission]) == 0
    assert settings_path().is_relative_to(lab)
    assert cli.main(chosen) == 0
    assert cli.main(["allow", "--remove", permission]) == 0
    refusals(capsys, *chosen)


def test_a_weak_sandbox_needs_a_permission_of_its_own(lab, capsys):
    weak = ["check", *CHOSEN, "metrics=[text,code_execution]", "--allow=execution"]
    (lab / "experiments").mkdir()
    (lab / "experiments" / "weak.yaml").write_text("# weak: weak\nmetrics:\n  pass_at_1:\n    weak_sandbox: true\n")
    assert "--allow weak-sandbox" in refusals(capsys, *weak, "experiments=weak")
    assert cli.main([*weak, "experiments=weak", "--allow=weak-sandbox"]) == 0


@pytest.mark.slow
def test_a_sweep_in_a_file_cannot_consent(lab, capsys):
    (lab / "experiments").mkdir()
    study = {"sweep": {"space": {"model.trust_remote_code": "true,false"}}}
    (lab / "experiments" / "study.yaml").write_text("# study: a study\n" + yaml.safe_dump(study))
    assert "--allow remote-code" in refusals(capsys, "check", "-m", *CHOSEN, "experiments=study")
    assert cli.main(["check", "-m", *CHOSEN, "experiments=study", "--allow=remote-code"]) == 0
    assert cli.main(["check", "-m", *CHOSEN, "model.trust_remote_code=true,false"]) == 0


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("model.trust_remote_code=true", ["model.trust_remote_code"]),
        ("++a.b=True", ["a.b"]),
        ("+metrics.x={_target_: a.B, k: 2, allow_execution: true}", ["metrics.x.allow_execution"]),
        ("a=false,true", ["a"]),
        ("a='true'", []),
        ("a=[true]", []),
        ("a={'x,remote-code': true}", []),
        ("a=truely", []),
        ("runs_path=/data/runs", ["runs_path"]),
        ("+tracker.x={_target_: a.B, save_dir: '~/x', n: 1}", ["tracker.x.save_dir"]),
        ("a.b=[x,../y]", ["a.b[1]"]),
        ("a=/x,b", ["a"]),
        ("a=word", []),
        ("not an override: true", []),
    ],
)
def test_only_true_or_a_path_typed_for_a_key_consents(text, keys):
    assert permitted.typed_permissions([text]) == [f"key:{key}" for key in keys]


@pytest.mark.parametrize("name", ["remote_code", "no_such_library_at_all", "lab code", "../x", "", "os.system()"])
def test_a_permission_that_does_not_exist_is_refused(lab, capsys, name):
    assert "permission" in refusals(capsys, "check", *CHOSEN, f"--allow={name}")


@pytest.mark.slow
@pytest.mark.parametrize("content", ["[allow", "allow: remote-code\n", "alow: []\n", "allow: [1]\n", "- remote-code\n"])
def test_a_settings_file_of_another_form_is_named(lab, monkeypatch, capsys, content):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(lab))
    settings_path().parent.mkdir()
    settings_path().write_text(content)
    assert str(settings_path()) in refusals(capsys, "check", *CHOSEN, "metrics=[text,code_execution]")
    assert cli.main(["check", *CHOSEN]) == 0  # this config needs no permission


@pytest.mark.slow
def test_init_allows_its_own_lab_but_no_folder_that_had_python_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "evil.py").write_text(COMPONENT)
    assert cli.main(["init", str(tmp_path / "old")]) == 0
    assert not settings_path().exists()
    assert cli.main(["init", str(tmp_path / "new")]) == 0
    assert yaml.safe_load(settings_path().read_text())["labs"] == [str(tmp_path / "new")]
    monkeypatch.chdir(tmp_path / "old")
    assert "instruct-lab allow ." in refusals(capsys, "check", "data=my_data", "tuning=my_loha")


SHADOWS = ["json", "yaml", "torch_xla", "mlflow", "flash_attn", "argparse", "hydra_plugins/evil", "sitecustom", "rich"]


@pytest.mark.slow
def test_files_of_the_working_directory_hide_no_library(lab):
    for name in SHADOWS:
        path = lab / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"from pathlib import Path\nPath({str(lab / 'owned')!r}).touch()\n")
    found = Path(instruct_lab.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(found)}
    commands = (["check", *CHOSEN], ["train", *CHOSEN, "debug=fast", "tracker=csv"])
    for start, command in zip(("instruct_lab", "instruct_lab.cli"), commands, strict=True):
        arguments = [sys.executable, "-m", start, *command]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=lab, env=environment)
        assert done.returncode == 0, done.stderr
        assert not (lab / "owned").exists()


STEP = """
from helper import REASON
from instruct_lab.config import component
from instruct_lab.preprocessing import Step

@component
class Mine(Step):
    '''Report every row.'''

    def apply(self, conversations, context):
        from later import ACTION

        for conversation in conversations:
            context.audit.record(context.stage, ACTION, REASON, conversation)
            yield conversation
"""
USES_STEP = [*CHOSEN, "+preprocessing.steps.mine={_target_: mine.Mine}"]


@pytest.fixture
def allowed_lab(lab, monkeypatch):
    """A lab whose step imports two other modules of the lab, beside files that have names of optional packages."""
    for name in SHADOWS:
        path = lab / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"from pathlib import Path\nPath({str(lab / 'owned')!r}).touch()\n")
    (lab / "mine.py").write_text(STEP)
    (lab / "helper.py").write_text("REASON = 'seen by the lab'\n")
    (lab / "later").mkdir()
    (lab / "later" / "__init__.py").write_text("from later.word import ACTION\n")
    (lab / "later" / "word.py").write_text("ACTION = 'reported'\n")
    monkeypatch.setenv("INSTRUCT_LAB_MODULES", "")  # restored after the test
    return lab


def test_modules_of_an_allowed_lab_hide_no_library(allowed_lab):
    assert cli.main(["check", *USES_STEP, "--allow-lab-code"]) == 0
    assert {"mine", "helper"} <= set(sys.modules)
    for name in ("torch_xla", "flash_attn", "sitecustom", "later", "helper_of_nobody"):
        assert importlib.util.find_spec(name) is None, name
    for name in ("json", "rich", "yaml"):
        assert not Path(importlib.util.find_spec(name).origin).is_relative_to(allowed_lab), name
    assert not (allowed_lab / "owned").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("module", "code"), [("mine", 0), ("torch_xla", 1), ("later", 1)])
def test_started_processes_import_what_a_config_names(allowed_lab, module, code):
    assert cli.main(["check", *USES_STEP, "--allow-lab-code"]) == 0
    found = Path(instruct_lab.__file__).parent.parent
    command = [sys.executable, "-P", "-c", f"import instruct_lab, {module}"]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(found)})
    assert done.returncode == code, done.stderr


def test_a_started_process_restores_the_modules_of_a_lab_in_any_folder(tmp_path, monkeypatch):
    folder = tmp_path / "a:b, c"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv(lab_code.VARIABLE, "")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for name in ("mine", "other.part"):
        lab_code.make_importable(name)
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, lab_code.LabFinder)]
    lab_code.restore()
    assert (sys.meta_path[-1].lab, sys.meta_path[-1].names) == (folder.resolve(), {"mine", "other"})


@pytest.mark.slow
def test_a_run_with_an_allowed_lab_imports_no_file_by_the_name_of_a_package(allowed_lab, tiny):
    assert cli.main(["train", *tiny, *USES_STEP[2:], "debug=fast", "--allow-lab-code"]) == 0
    assert not (allowed_lab / "owned").exists()
    assert "seen by the lab" in (newest_run(allowed_lab) / "audit.json").read_text()


@pytest.mark.slow
def test_what_a_run_does_with_a_permission_is_printed_and_recorded(lab, tiny, capsys):
    chosen = [*tiny, "debug=fast", "model.trust_remote_code=true", "+tracker.mine._target_=support.fake_loggers.Plain"]
    assert cli.main(["train", *chosen]) == 0
    lines = [
        "with your permission (remote-code): run the Python files that come with a model (model.trust_remote_code)",
        "with your permission (support.fake_loggers.Plain): use support.fake_loggers.Plain (tracker.mine)",
    ]
    printed = capsys.readouterr().err
    assert all(line in printed for line in lines)
    record = newest_run(lab)
    assert json.loads((record / "manifest.json").read_text())["permissions"] == lines
    assert "--allow remote-code" in refusals(capsys, "generate", record.name, "hello")
    assert cli.main(["generate", record.name, "hello", "--allow", "remote-code"]) == 0
    assert lines[0] in capsys.readouterr().err
