"""The code on the card of an exported model loads it; it computes what the run computed and stops as it was trained."""

import json
import re
import shutil

import pytest
import torch

from instruct_lab import cli
from instruct_lab.experiment.check import check
from instruct_lab.training.workspace import Workspace

CHAT = ["template=chatml", 'template.turn_end="<|stop|>"', 'model.tokenizer.extra_special_tokens=["<|stop|>"]']
SEQUENCE = ["template=contents", "metrics=perplexity", "model=tiny_bart"]
MASKED = ["template=contents", "model=tiny_encoder", "objective=masked", "metrics=masked"]
SHORT = ["trainer.max_steps=3", "optimizer.lr=0.05", "evaluation.before=false"]


@pytest.fixture
def base(lab, tiny):
    """A base model in a folder whose generation config ends answers with other tokens than those of the template."""
    loaded = Workspace(check(tiny).or_refuse().experiment).base().loaded
    loaded.model.save_pretrained(lab / "base")
    loaded.tokenizer.save_pretrained(lab / "base")
    return ["model=local_folder", "model.weights.path=base"]


def load_by_card(folder):
    """Run the code of the card."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"## Use\n.*?```python\n(.*?)```", card, re.DOTALL)
    names = {}
    exec(code.replace('folder = "."', f"folder = {str(folder)!r}"), names)
    return names["model"].eval(), names["tokenizer"], card


def forced(model, tokenizer, tokens):
    """Generate with each next token dictated; returns how many were generated."""
    from transformers import LogitsProcessor, LogitsProcessorList

    class Dictated(LogitsProcessor):
        count = 0

        def __call__(self, input_ids, scores):
            dictated = torch.full_like(scores, -1e9)
            dictated[:, tokens[min(self.count, len(tokens) - 1)]] = 0.0
            self.count += 1
            return dictated

    ids = torch.tensor([tokenizer("a b")["input_ids"]])
    dictated = Dictated()
    settings = {"do_sample": False, "num_beams": 1, "max_new_tokens": len(tokens) + 5}
    model.generate(input_ids=ids, logits_processor=LogitsProcessorList([dictated]), **settings)
    return dictated.count


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False], ids=["adapter", "merged"])
@pytest.mark.parametrize(
    ("options", "where"),
    [(CHAT, "inside"), (CHAT, "folder"), (SEQUENCE, "inside"), (MASKED, "inside"), ([], "folder")],
    ids=["chatml-random", "chatml-folder", "bart", "masked", "own-template-folder"],
)
def test_the_cards_code_loads_what_the_run_trained(lab, tiny, base, train, options, where, kept, tmp_path):
    options = [*(base if where == "folder" else []), *options, *SHORT]
    record = train(*options)
    out = lab / "out"
    assert cli.main(["export", "latest", str(out), *(["--keep-adapter"] if kept else [])]) == 0
    experiment = check([*tiny, *options]).or_refuse().experiment
    tuned = Workspace(experiment).tuned(record).loaded
    model, tokenizer, card = load_by_card(out)
    assert (out / "base_model").is_dir() is (kept and where == "inside")
    if kept:
        config = json.loads((out / "adapter_config.json").read_text())
        expected = out / "base_model" if where == "inside" else lab / "base"
        assert config["base_model_name_or_path"] == str(expected.resolve())
    batch = {"input_ids": torch.tensor([tuned.tokenizer("a red house")["input_ids"]])}
    if experiment.model.family == "encoder-decoder":
        batch["decoder_input_ids"] = batch["input_ids"][:, :3]
    with torch.inference_mode():
        torch.testing.assert_close(model(**batch).logits, tuned.model(**batch).logits, rtol=1e-4, atol=1e-5)
    if experiment.cannot_answer:
        assert not (out / "generation_config.json").exists()
        assert "Answers end" not in card
        return
    stops = experiment.template.stop_token_ids(tuned.tokenizer)
    other = next(i for i in range(5, 200) if i not in stops)
    for stop in stops:
        assert forced(model, tokenizer, [other, other, stop, other]) == 3
    assert forced(model, tokenizer, [other] * 4) == 9
    stored = json.loads((out / "generation_config.json").read_text())
    assert stored["eos_token_id"] == stops
    names = tuned.tokenizer.convert_ids_to_tokens(stops)
    assert all(f"`{name}`" in card for name in names)


@pytest.mark.slow
def test_the_base_model_inside_the_export_makes_peft_stop_by_itself(lab, train):
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    train(*CHAT, *SHORT)
    assert cli.main(["export", "latest", str(lab / "out"), "--keep-adapter"]) == 0
    model = AutoPeftModelForCausalLM.from_pretrained(lab / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(lab / "out")
    end = tokenizer.convert_tokens_to_ids("<|stop|>")
    assert tokenizer.eos_token == "<|stop|>"
    assert forced(model, tokenizer, [70, end, 70]) == 2


@pytest.mark.slow
def test_a_moved_export_with_its_base_model_is_loaded_by_the_card(lab, train):
    train(*CHAT, *SHORT)
    assert cli.main(["export", "latest", str(lab / "out"), "--keep-adapter"]) == 0
    shutil.move(lab / "out", lab / "moved")
    model, tokenizer, _ = load_by_card(lab / "moved")
    assert forced(model, tokenizer, [70, tokenizer.eos_token_id, 70]) == 2
