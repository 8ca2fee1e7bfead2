"""Setting values after composing the option files gives the config that Hydra composes from all overrides at once."""

import os
import shutil

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from instruct_lab.config import compose as composing
from instruct_lab.config import shared_files, sources
from instruct_lab.config.compose import PRIMARY, compose
from instruct_lab.config.shared_files import SharedFiles
from instruct_lab.config.yaml_text import MAX_BYTES

CASES = {
    "values": ["optimizer.lr=3e-4", "tuning.r=4", "seed=3"],
    "an option after its values": ["tuning.r=4", "tuning=lora", "tuning.alpha=null"],
    "options and values mixed": ["seed=1", "model=tiny_random", "optimizer.lr=1e-3", "optimizer=adamw"],
    "one value twice": ["tuning.r=4", "tuning.r=8"],
    "taken away, then set": ["~tuning.r", "+tuning.r=2"],
    "set, then taken away": ["tuning.r=4", "~tuning.r", "seed=2"],
    "lists and dicts": [
        "evaluation.splits=[validation]",
        "data.limit={train: 4, test: 2}",
        "metrics=[perplexity,masked]",
    ],
    "texts": ["name='a, b = c'", 'data.limit.train="7"', "tracker=none"],
    "nothing": ["callbacks.checkpoint=null", "lr_scheduler=constant"],
    "a key that no component has": ["+tuning.unknown=1"],
    "of the sweep": ["hydra/sweeper=random", "sweep.num_points=3", "sweep.seeds=2"],
}


@pytest.fixture(autouse=True)
def nothing_composed_before(monkeypatch):
    """Other tests of this process have composed configs of labs with the same files."""
    monkeypatch.setattr(shared_files, "_recent", {})


def compose_with_hydra(overrides):
    """What Hydra composes from all overrides, in the form in which they are applied."""
    applied = [str(override.input_line) for override in compose(overrides).applied]
    with composing.initialized_hydra():
        return hydra.compose(PRIMARY, overrides=applied, return_hydra_config=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_config_is_what_hydra_composes(lab, name):
    expected, files = compose_with_hydra(CASES[name]), SharedFiles()
    for _ in range(2):
        composed = compose(CASES[name], files.load)
        assert not composed.problems
        config = OmegaConf.to_container(composed.config, resolve=False)
        assert config == {k: v for k, v in OmegaConf.to_container(expected).items() if k not in ("hydra", "sweep")}
        sweeper = OmegaConf.to_container(composed.sweep.hydra.sweeper)
        assert sweeper == OmegaConf.to_container(expected.hydra.sweeper)
        chosen = {key: value for key, value in expected.hydra.runtime.choices.items() if key in composed.choices}
        assert composed.choices == {k: list(v) if OmegaConf.is_list(v) else v for k, v in chosen.items()} | {
            group: options for group, options in composed.choices.items() if isinstance(options, list)
        }


@pytest.mark.slow
def test_points_share_the_composed_files_and_nothing_else(lab, monkeypatch):
    composed, of_hydra = [], hydra.compose
    monkeypatch.setattr(hydra, "compose", lambda *a, **k: (composed.append(k["overrides"]), of_hydra(*a, **k))[1])
    rates, options = ["1e-4", "2e-4", "3e-4"], ["lora", "full"]
    points = [[f"optimizer.lr={rate}", f"tuning={option}", "seed=5"] for rate in rates for option in options]
    apart = [compose(point, lambda overrides: SharedFiles().load(overrides)) for point in points]
    assert len(composed) == len(points)
    composed.clear()
    files = SharedFiles()
    together = [compose(point, files.load) for point in points]
    together[0].config.optimizer.lr = 7  # does not change what is shared
    assert compose(points[0], files.load).config == apart[0].config
    assert composed == [["tuning=lora"], ["tuning=full"]]
    assert [one.config for one in together[1:]] == [one.config for one in apart[1:]]
    assert [one.choices for one in together] == [one.choices for one in apart]


def learning_rate(*overrides):
    return compose(list(overrides)).config.optimizer.lr


@pytest.mark.slow
def test_changed_files_are_read_again(lab, monkeypatch):
    composed, of_hydra = [], hydra.compose
    monkeypatch.setattr(hydra, "compose", lambda *a, **k: (composed.append(k["overrides"]), of_hydra(*a, **k))[1])
    (lab / "conf" / "optimizer").mkdir()
    option = lab / "conf" / "optimizer" / "mine.yaml"
    option.write_text("_target_: instruct_lab.optimizer.AdamW\nlr: 0.5\n")
    assert learning_rate("optimizer=mine") == 0.5
    assert learning_rate("optimizer=mine", "tuning.r=4") == 0.5
    assert len(composed) == 1
    option.write_text("_target_: instruct_lab.optimizer.AdamW\nlr: 0.7\n")
    assert learning_rate("optimizer=mine") == 0.7
    other = lab / "other"
    shutil.copytree(lab / "conf", other / "conf")
    monkeypatch.chdir(other)
    assert learning_rate("optimizer=mine") == 0.7
    assert len(composed) == 2  # equal files of another lab are not read again
    option.unlink()
    monkeypatch.chdir(lab)
    assert compose(["optimizer=mine"]).problems


@pytest.mark.slow
@pytest.mark.parametrize("changes", ["a variable", "a linked folder", "a folder that cannot be listed", "a reference"])
def test_what_may_change_without_notice_is_read_each_time(lab, monkeypatch, changes):
    composed, of_hydra = [], hydra.compose
    monkeypatch.setattr(hydra, "compose", lambda *a, **k: (composed.append(k["overrides"]), of_hydra(*a, **k))[1])
    if changes == "a variable":
        monkeypatch.setenv("METHOD", "lora")
        (lab / "conf" / "data" / "more.yaml").write_text("defaults: [mine]\nname: ${oc.env:METHOD}\n")
    elif changes == "a linked folder":
        (lab / "linked").mkdir()
        (lab / "conf" / "optimizer").symlink_to(lab / "linked")
    elif changes == "a folder that cannot be listed":
        (lab / "conf" / "locked").mkdir()
        scan = os.scandir

        def scan_unlocked(path="."):
            if str(path).endswith("locked"):
                raise PermissionError(path)
            return scan(path)

        monkeypatch.setattr(os, "scandir", scan_unlocked)
    chosen = "data=path:rows.jsonl" if changes == "a reference" else "data=mine"
    (lab / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n' * 10)
    for _ in range(2):
        assert not compose([chosen]).problems
    assert len(composed) == 2


def test_files_that_are_no_option_files_are_not_read(lab, monkeypatch):
    composed, of_hydra = [], hydra.compose
    monkeypatch.setattr(hydra, "compose", lambda *a, **k: (composed.append(k["overrides"]), of_hydra(*a, **k))[1])
    (lab / "conf" / "large.bin").write_bytes(bytes(MAX_BYTES + 1))
    os.mkfifo(lab / "conf" / "data" / "pipe")
    (lab / "experiments").mkdir(exist_ok=True)
    (lab / "experiments" / "notes.txt").write_text("${oc.env:HOME}")
    for _ in range(2):
        assert not compose(["data=mine"]).problems
    assert len(composed) == 1


@pytest.mark.slow
@pytest.mark.parametrize("override", ["++tuning.r@other=4", "tuning.r@other=4", "+tuning.unknown@other=1"])
def test_a_value_with_a_package_is_refused(lab, override):
    composed = compose([override])
    assert "looks like a config group override" in composed.problems[0].reason
    assert composed.config == compose([]).config


def test_an_override_that_adds_a_group_is_hydras_to_refuse(lab):
    with composing.initialized_hydra(), pytest.raises(HydraException):
        SharedFiles().load(OverridesParser.create().parse_overrides(["++tuning=lora"]))


def test_a_content_is_parsed_once_and_its_copies_are_independent(lab, monkeypatch):
    sources._parse.cache_clear()
    (lab / "conf" / "optimizer").mkdir()
    (lab / "conf" / "optimizer" / "mine.yaml").write_text("_target_: instruct_lab.optimizer.AdamW\nlr: 0.5\n")
    first, second = (compose(["optimizer=mine", f"trainer={name}"]).config for name in ("auto", "cpu"))
    parsed = sources._parse.cache_info()
    assert parsed.hits > 15 > parsed.misses - parsed.hits, "only the option of the trainer is parsed for the second"
    first.optimizer.lr = 7
    assert second.optimizer.lr == compose(["optimizer=mine", "trainer=auto"]).config.optimizer.lr == 0.5
    text = lab / "conf" / "optimizer" / "mine.yaml"
    text.write_text("_target_: instruct_lab.optimizer.AdamW\nlr: [0.5\n")
    (problem,) = compose(["optimizer=mine"]).problems
    assert "mine.yaml, line 3" in problem.reason
