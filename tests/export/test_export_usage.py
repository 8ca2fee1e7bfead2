"""The code on the card of an exported model loads it; it computes what the run computed and stops as it was trained."""

import json
import re
import shutil

import pytest
import torch

from instruct_lab import cli
from instruct_lab.experiment.check import check
from instruct_lab.export.library_answers import answers_note, compare_answers
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


def build_adapted(kind, method):
    """A small model with virtual tokens, both with large random weights, so that its answers depend on the prompt."""
    import peft
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    sizes = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
        "llama": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
        "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0},
    }
    is_seq2seq = kind == "t5"
    config = AutoConfig.for_model(kind, **sizes[kind], vocab_size=200, pad_token_id=0, eos_token_id=None)
    torch.manual_seed(0)
    model = (AutoModelForSeq2SeqLM if is_seq2seq else AutoModelForCausalLM).from_config(config)
    task = "SEQ_2_SEQ_LM" if is_seq2seq else "CAUSAL_LM"
    adapted = peft.get_peft_model(model, getattr(peft, method)(task_type=task, num_virtual_tokens=6)).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) * (1.0 if parameter.requires_grad else 0.3))
    return adapted


def greedy_by_forward(model, ids, count):
    """The greedy answer, computed by whole forward passes without a cache and without `generate`."""
    start = torch.tensor([[0]]) if model.config.is_encoder_decoder else None
    answer = []
    for _ in range(count):
        arguments = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if start is not None:
            arguments["decoder_input_ids"] = start
        token = model(**arguments).logits[:, -1:].argmax(-1)
        answer.append(int(token))
        if start is None:
            ids = torch.cat([ids, token], 1)
        else:
            start = torch.cat([start, token], 1)
    return answer


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("gpt2", "PromptTuningConfig"),
        ("gpt2", "PrefixTuningConfig"),
        ("llama", "PromptEncoderConfig"),
        ("llama", "PrefixTuningConfig"),
        ("t5", "PromptTuningConfig"),
        ("t5", "PrefixTuningConfig"),
    ],
)
@torch.inference_mode()
def test_the_card_says_where_generate_answers_otherwise(kind, method):
    model = build_adapted(kind, method)
    prompts = [torch.randint(5, 150, (1, length)) for length in (7, 12, 9)]
    expected = [greedy_by_forward(model, ids, 8) for ids in prompts]
    assert len(set(map(tuple, expected))) > 1

    def generated(**settings):
        answers = []
        for ids in prompts:
            output = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8, **settings
            )
            answers.append(output[0, 1 if kind == "t5" else ids.shape[1] :].tolist())
        return answers

    found = compare_answers(model)
    assert (generated() == expected) is (found == "same")
    assert found != "same without cache" or generated(use_cache=False) == expected
    assert bool(answers_note(found)) is (found != "same")


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["prompt_tuning", "lora"])
def test_the_cards_code_answers_as_measured(lab, train, tuning, capsys):
    record = train(f"tuning={tuning}", "optimizer.lr=0.3", "evaluation.before=false")
    assert cli.main(["export", "latest", str(lab / "out")]) == 0
    model, tokenizer, card = load_by_card(lab / "out")
    assert ("use_cache = False" in card) is (tuning == "prompt_tuning")
    code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[1]
    for line in map(json.loads, (record / "predictions.jsonl").read_text().splitlines()):
        capsys.readouterr()
        exec(code.replace('"Your prompt"', repr(line["prompt"])), {"model": model, "tokenizer": tokenizer})
        assert capsys.readouterr().out.removesuffix("\n") == line["prediction"]
