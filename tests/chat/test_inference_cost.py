"""`inference-cost` measures each form of a run's model: the numbers of tokens, the size of the weights, the forms."""

import json

import pytest

from instruct_lab import cli
from instruct_lab.chat import inference_cost
from instruct_lab.generation import Generation

pytestmark = pytest.mark.slow
SMALL = ["--prompt-tokens", "7", "--new-tokens", "5", "--batch", "3", "--repeats", "2", "--json"]
SHORT = ["metrics=none", "evaluation.before=false", "trainer.max_steps=1"]


@pytest.mark.parametrize(
    ("tuning", "forms"),
    [
        (["tuning=lora", "tuning.r=2"], ["base", "adapter", "merged"]),
        (["tuning=full"], ["base", "tuned"]),
        (["tuning=prompt_tuning"], ["base", "adapter"]),
    ],
)
def test_each_form_of_the_model_is_measured(train, capsys, monkeypatch, tuning, forms):
    record = train(*SHORT, *tuning)
    calls = []
    generate = Generation.generate_ids

    def counted(self, model, prompts, *arguments, **settings):
        answers = generate(self, model, prompts, *arguments, **settings)
        calls.append(([len(prompt) for prompt in prompts], [len(answer) for answer in answers]))
        return answers

    monkeypatch.setattr(Generation, "generate_ids", counted)
    capsys.readouterr()
    assert cli.main(["inference-cost", str(record), *SMALL]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["form"] for one in found] == forms
    assert calls == [([7] * 3, [1] * 3), ([7] * 3, [5] * 3)] * 3 * len(forms)
    sizes = {one["form"]: one["weights_bytes"] for one in found}
    if "merged" in forms:
        assert sizes["adapter"] > sizes["merged"] == sizes["base"]
    for one in found:
        assert 0 < one["slowest"] <= one["new_tokens_per_second"] <= one["fastest"]
        assert one["peak_bytes"] > one["weights_bytes"] > 0
    kept = json.loads((record / inference_cost.FILE).read_text())
    assert kept["forms"] == found
    assert (kept["batch"], kept["new_tokens"]) == (3, 5)


def test_what_cannot_be_measured_is_refused(train, capsys):
    for words in (["--new-tokens", "1"], ["--batch", "0"], ["--repeats", "-1"], ["--prompt-tokens", "0"]):
        assert cli.main(["inference-cost", "no-such-run", *words]) == 2
        assert "cannot be measured" in capsys.readouterr().err
    record = train(*SHORT, "tuning.r=2")
    assert cli.main(["inference-cost", str(record), "--prompt-tokens", "100000"]) == 2
    assert cli.main(["inference-cost", "no-such-run"]) == 2
