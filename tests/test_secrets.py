"""Secrets are found by name, by form and by origin; what is ordinary stays as it is."""

import contextlib
import io
import json
import os
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from instruct_lab import files, guard, secrets
from instruct_lab.config.environment_values import (
    escape,
    exposures,
    read_plain,
    require_variables,
    to_omegaconf,
    to_plain_config,
)
from instruct_lab.errors import InstructLabError, Problem, one_line
from instruct_lab.records.config_file import read_yaml, to_yaml
from instruct_lab.records.identity import config_hash, settings_of

HUB = "hf_" + "aBcDeF" * 6
CODED = "canary7-a81fd"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """Each test knows only its own secrets, and leaves no variable behind."""
    secrets.forget_all()
    monkeypatch.setattr(os, "environ", os.environ.copy())
    yield
    secrets.forget_all()


# ---- what is a secret


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tracker.comet.api_key", "abcdefg"),
        ("db.password", "purple monkey"),
        ("clientSecret", "abcdef"),
        ("HF_TOKEN", "abcdefgh"),
        ("MY_TOKEN", "a1b2c3d4"),
        ("STRIPE_KEY", "live-1a2b3c"),
        ("INSTRUCT_LAB_SECRET_X", "anything"),
    ],
)
def test_settings_that_hold_secrets(name, value):
    assert secrets.looks_like_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.tokenizer.pad_token", "<|pad_0|>"),
        ("template.end_token", "</s>"),
        ("data.format.answer_key", "reference"),
        ("data.key", "row_id"),
        ("keyboard", "a1b2c3d4"),
        ("password", ""),
        ("batching.max_tokens", "1024tokens"),
        ("tokenizer", "gpt2-medium1"),
        ("data.format.answer_key", "answer_1b"),
        ("new_token", "token_0001"),
    ],
)
def test_settings_that_hold_none(name, value):
    assert not secrets.looks_like_secret(name, value)


FORMS = {
    HUB: "token",
    "sk-proj-A1b2C3d4E5f6G7h8": "token",
    "ghp_16C7e42F292c6912E7": "token",
    "AKIAIOSFODNN7ABCDEFG": "token",
    "https://me:pw4canary@host/x": "pw4canary",
    "Authorization: Bearer abc123def456": "abc123def456",
    "mysql://root:hunter2!@db:3306": "hunter2!",
}


@pytest.mark.parametrize("text", FORMS)
def test_the_form_of_a_secret_is_enough(text):
    hidden = secrets.hide_forms(f"It said: {text} (at step 3)")
    expected = text if FORMS[text] == "token" else FORMS[text]
    assert expected not in hidden
    assert secrets.HIDDEN in hidden
    assert hidden.startswith("It said: ")
    assert hidden.endswith(" (at step 3)")


@pytest.mark.parametrize(
    "text",
    [
        "hf-internal-testing/tiny-random-gpt2",
        "user/hf_llama_checkpoints_v2",
        "3b9ad2f5f2a0b6f5c3f8a1f4d3e2c1b0a9f8e7d6",
        "http://127.0.0.1:7860?project=x",
        "sk-learn",
        "the bearer of good news",
        "https://host/path?mail=a@b.c",
    ],
)
def test_ordinary_texts_are_left(text):
    assert secrets.hide_forms(text) == text


@pytest.mark.parametrize(
    ("variable", "value", "is_hidden", "is_recorded"),
    [
        ("HF_TOKEN", HUB, True, False),
        ("ANY", CODED, True, False),
        ("ANY", "word", False, True),
        ("ANY", "justwords", False, False),
        ("ANY", "a text with spaces and 3 words", False, False),
        ("SEED_VALUE", "12345678", False, True),
        ("SCRATCH", "cluster-7-scratch", False, True),
        ("WHERE", "/data/models/x1", False, True),
        ("WANDB_PROJECT", "project-17b", False, True),
        ("WANDB_PROJECT", HUB, True, False),
        ("DB_PASSWORD", "12345678", True, False),
        ("AWS_SECRET_ACCESS_KEY", "/wJalrXUtnFEMI7K7MDENG", True, False),
        ("SERVICE_API_KEY", "./wJalrXUtnFEMI7K7MDENG", True, False),
        ("OLDPWD", "/nowhere/at/all1", False, True),
    ],
)
def test_values_of_the_environment(variable, value, is_hidden, is_recorded):
    os.environ[variable] = value
    config = OmegaConf.create({"prompt": {"system": f"${{oc.env:{variable}}}"}, "copy": "<${prompt.system}>"})
    plain = to_plain_config(config)
    assert (secrets.hide(f"x {value} y") == "x <secret> y") == is_hidden
    reference = f"${{oc.env:{variable}}}"
    assert plain == {
        "prompt": {"system": value if is_recorded else reference},
        "copy": f"<{value if is_recorded else reference}>",
    }


def test_numbers_from_the_environment_are_recorded_as_numbers():
    os.environ["LAYERS"] = "24"
    config = OmegaConf.create({"n": "${oc.decode:${oc.env:LAYERS}}", "m": "${oc.env:NOT_SET,7}"})
    assert to_plain_config(config) == {"n": 24, "m": "7"}


# ---- the record asks the environment again


@settings(max_examples=60)
@given(
    st.lists(
        st.sampled_from(["${oc.env:A_SECRET}", "\\", "${x}", "$", "{", "}", "é", '"', ": ", "\n", "x"]), max_size=8
    )
)
@example(["\\", "\n", "${oc.env:A_SECRET}"])
def test_a_recorded_text_has_the_value_that_the_run_used(parts):
    value = 'c4n"ary\\${y}'
    os.environ["A_SECRET"] = value
    secrets.remember(value, "A_SECRET")
    text = "".join(part.replace("${oc.env:A_SECRET}", value) for part in parts)
    plain = to_plain_config(OmegaConf.create(escape({"text": text})))
    assert value not in plain["text"]
    if value not in text:
        assert plain["text"] == text
    recorded = read_plain(OmegaConf.create(to_yaml(plain)))
    assert recorded == plain
    assert to_omegaconf(recorded)["text"] == text
    assert to_plain_config(to_omegaconf(recorded)) == plain


def test_a_secret_written_into_a_config_gets_a_variable(tmp_path):
    config = OmegaConf.create(
        {"tracker": {"a": {"api_key": "purple7monkey", "uri": "http://me:zebra44pw@h/"}}, "n": HUB}
    )
    plain = to_plain_config(config)
    (tmp_path / "config.yaml").write_text(to_yaml(plain), encoding="utf-8")
    text = (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert not [secret for secret in ("purple7monkey", "zebra44pw", HUB) if secret in text]
    recorded = read_yaml(tmp_path / "config.yaml")
    assert recorded["tracker"]["a"]["api_key"] == "${oc.env:INSTRUCT_LAB_SECRET_TRACKER_A_API_KEY}"
    assert OmegaConf.to_container(to_omegaconf(recorded), resolve=True) == OmegaConf.to_container(config)
    del os.environ["INSTRUCT_LAB_SECRET_TRACKER_A_API_KEY"]
    with pytest.raises(InstructLabError, match=r"TRACKER_A_API_KEY \(the value of tracker\.a\.api_key") as refused:
        require_variables(recorded, "run 1")
    assert len(str(refused.value).splitlines()) == 1


def test_two_secrets_of_one_key_get_two_variables():
    first, second = secrets.variable_for("one1234567", "a.key"), secrets.variable_for("two1234567", "a.key")
    assert {os.environ[first], os.environ[second]} == {"one1234567", "two1234567"}
    assert secrets.variable_for("one1234567", "a.key") == first


def test_a_changed_variable_is_a_changed_setting():
    os.environ["ANY"] = CODED
    config = to_plain_config(OmegaConf.create({"template": {"system": "be ${oc.env:ANY}"}}))
    before, known = config_hash(config), settings_of(config)
    assert CODED not in json.dumps(known)
    assert (config_hash(config), settings_of(config)) == (before, known)
    os.environ["ANY"] = CODED + "2"
    assert config_hash(config) != before
    assert settings_of(config) != known


def test_a_number_that_is_a_password_leaves_files_readable(tmp_path):
    os.environ["DB_PASSWORD"], os.environ["OTHER_PASSWORD"] = "123456", "      "
    secrets.remember_environment()
    content = {"loss": 0.123456, "count": 123456, "text": "it is 123456", "123456": ["0.1234567", 'a "123456" \\']}
    files.write_json(tmp_path / "a.json", content)
    assert files.read_json(tmp_path / "a.json") == {
        "loss": 0.123456,
        "count": 123456,
        "text": "it is <secret>",
        "<secret>": ["0.1234567", 'a "<secret>" \\'],
    }
    files.append_text(tmp_path / "a.jsonl", files.to_json(content) + "\n")
    assert files.read_lines(tmp_path / "a.jsonl")[0]["count"] == 123456
    assert secrets.hide("abc 123456") == "abc <secret>"


# ---- overrides


OVERRIDES = {
    "tracker.x.api_key=purplemonkey": ("tracker.x.api_key", "purplemonkey"),
    '+tracker.x.password="two words, 3"': ("tracker.x.password", "two words, 3"),
    "tracker.x.uri=https://me:zebra44pw@host/x": ("tracker.x.uri", "https://me:zebra44pw@host/x"),
    "tracker.x={_target_: a.B, api_key: purplemonkey}": ("tracker.x", {"_target_": "a.B", "api_key": "purplemonkey"}),
    f"name={HUB}": ("name", HUB),
    f"data.list=[a,{HUB}]": ("data.list", ["a", HUB]),
    f"text='say {HUB} now'": ("text", f"say {HUB} now"),
    f"text=C:\\folder {HUB} x": ("text", f"C:\\folder {HUB} x"),
    "text=from-the-shell-1": ("text", "from-the-shell-1"),
}


@pytest.mark.parametrize("argument", OVERRIDES)
def test_a_secret_in_an_override_becomes_a_variable_with_the_same_meaning(argument):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    os.environ["SHELL_API_KEY"] = "from-the-shell-1"
    secrets.remember_environment()
    protected = guard.protect_override(argument)
    key, meant = OVERRIDES[argument]
    for secret in ("purplemonkey", "two words", "zebra44pw", HUB, "from-the-shell-1"):
        assert secret not in protected
    override = OverridesParser.create().parse_override(protected)
    assert override.key_or_group == key
    config = OmegaConf.create({"value": override.value()})
    assert OmegaConf.to_container(config, resolve=True)["value"] == meant


@pytest.mark.parametrize(
    "argument",
    ["tuning.r=8", "tracker=[csv,wandb]", "model.tokenizer.pad_token=<pad>", "x=${oc.env:HF_TOKEN}", "--json", "a b=c",
     "tracker.x.api_key=${oc.env:KEY1}", "data.path=runs/a1b2c3d4e5", "metrics.key={a: b}"],
)  # fmt: skip
def test_other_overrides_stay_as_they_are(argument):
    assert guard.protect_override(argument) == argument


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        ({"name": "${oc.env:SOME_TOKEN}"}, ["name"]),
        ({"name": f"run-{HUB}"}, ["name"]),
        ({"runs_path": "/x/${oc.env:SOME_TOKEN}"}, ["runs_path"]),
        ({"tracker": {"wandb": {"project": "${oc.env:SOME_TOKEN}", "tags": ["a", "b ${name}"]}}, "name": HUB},
         ["name", "tracker.wandb.project", "tracker.wandb.tags.1"]),
        ({"name": "${oc.env:USER}", "tracker": {"wandb": {"entity": "${oc.env:WANDB_ENTITY}"}}}, []),
        ({"tracker": {"m": {"tracking_uri": "//a:${oc.env:SOME_TOKEN}@h", "api_key": "${oc.env:SOME_TOKEN}"}}}, []),
        ({"template": {"system": "${oc.env:SOME_TOKEN}"}, "name": "${oc.env:MISSING}"}, []),
    ],
)  # fmt: skip
def test_secrets_are_refused_where_they_would_be_names_or_sent(config, keys):
    os.environ |= {"SOME_TOKEN": CODED, "USER": "ada", "WANDB_ENTITY": "team-77abc"}
    found = list(exposures(OmegaConf.create(config)))
    assert [problem.key for problem in found] == keys
    assert not [problem for problem in found if CODED in str(problem) or HUB in str(problem)]


# ---- texts


@settings(max_examples=100)
@given(st.text(min_size=8, max_size=30).filter(lambda text: text.strip() == text and len(set(text)) > 4))
def test_a_secret_is_found_however_it_is_written(value):
    secrets.forget_all()
    secrets.remember(value, "X")
    texts = [value, json.dumps({"a": value}), json.dumps([value], ensure_ascii=False), repr([value])]
    for text in texts:
        assert secrets.hide(text) != text
    assert value not in secrets.hide(f"before {value} after")


def test_a_secret_is_hidden_before_a_message_is_cut():
    secrets.remember(CODED, "X")
    assert CODED[:6] not in one_line("x" * 290 + CODED)
    assert CODED[:6] not in str(Problem(key="a", value="x" * 192 + CODED, reason="wrong"))
    assert CODED not in str(InstructLabError(f"wrong: {CODED}", where=CODED))


def test_a_private_key_is_hidden_line_by_line():
    block = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nBAQEFAASCBKcwggSjAgEAAo\n-----END PRIVATE KEY-----"
    secrets.remember(block, "PEM_KEY")
    for text in (block, " ".join(block.split()), json.dumps(block), block.replace("\n", "\n    ")):
        assert "MIIEvQIBADANBgkqhkiG9w0" not in secrets.hide(text)
        assert "BAQEFAASCBKcwggSjAgEAAo" not in secrets.hide(text)


def test_streams_and_tracebacks_hide_secrets(monkeypatch):
    secrets.remember(CODED, "X")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), guard.redacted_streams():
        print(CODED, HUB)
        print(CODED, HUB, file=sys.stderr)
        sys.stdout.writelines([CODED, "\n"])
        try:
            raise ValueError(CODED)
        except ValueError as error:
            guard.print_traceback(type(error), error, error.__traceback__)
    assert out.getvalue() == f"<secret> {HUB}\n<secret>\n"  # standard output can hold data
    assert err.getvalue().startswith("<secret> <secret>\n")
    assert "ValueError: <secret>" in err.getvalue()


# ---- files


@pytest.mark.parametrize(
    ("umask", "variable", "file", "folder"),
    [
        (0o022, None, 0o600, 0o700),
        (0o277, None, 0o400, 0o500),
        (0o022, "027", 0o640, 0o750),
        (0o077, "022", 0o600, 0o700),
        (0o002, "002", 0o664, 0o775),
    ],
)
def test_new_files_are_private_and_never_wider_than_the_umask(tmp_path, umask, variable, file, folder):
    if variable is not None:
        os.environ["INSTRUCT_LAB_UMASK"] = variable
    before = os.umask(umask)
    try:
        with guard.private_files():
            (tmp_path / "file").write_text("x")
            (tmp_path / "folder").mkdir()
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == file
    assert (tmp_path / "folder").stat().st_mode & 0o777 == folder


@pytest.mark.parametrize("text", ["8", "abc", "0o22", "-1", "1777"])
def test_a_wrong_mask_is_refused(text):
    os.environ["INSTRUCT_LAB_UMASK"] = text
    with pytest.raises(InstructLabError, match="not a mask"), guard.private_files():
        pass
