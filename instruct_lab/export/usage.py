"""The section of a model card that explains how to load the exported model and which tokens end its answers."""

from __future__ import annotations

from collections.abc import Sequence

from instruct_lab.experiment import Experiment
from instruct_lab.export.adapter import BASE_FOLDER
from instruct_lab.export.library_answers import answers_note, compare_answers
from instruct_lab.model import LoadedModel
from instruct_lab.model.weights.base import Origin


def usage(experiment: Experiment, stops: Sequence[str], base: Origin | None, loaded: LoadedModel) -> str:
    """Write the section of the model card about how to use the exported model, as Markdown.

    Args:
        experiment: the run's configuration.
        stops: the tokens that end an answer; empty for a model that generates nothing.
        base: where the base model of an exported adapter can be loaded from; `None` if a whole model is exported.
        loaded: the tuned model.
    """
    is_score = experiment.objective.head == "score"
    auto_class = "AutoModelForSequenceClassification" if is_score else experiment.model.auto_class
    arguments = ", num_labels=1" if is_score else ""
    ends = f"Answers end with {' or '.join(f'`{token}`' for token in stops)} (`generation_config.json`)."
    generation = ["GenerationConfig"] if stops and base is not None else []
    code = ["from peft import PeftModel"] if base is not None else []
    code.append(f"from transformers import {', '.join([auto_class, 'AutoTokenizer', *generation])}")
    code += ["", 'folder = "."  # this folder', "tokenizer = AutoTokenizer.from_pretrained(folder)"]
    if base is None:
        code.append(f"model = {auto_class}.from_pretrained(folder{arguments})")
        return "\n\n".join([*([ends] if stops else []), _block(code), *_answer(stops, loaded)])
    source = f'f"{{folder}}/{BASE_FOLDER}"' if base.is_exported else repr(base.name)
    revision = "" if base.revision is None else f", revision={base.revision!r}"
    code.append(f"base = {auto_class}.from_pretrained({source}{revision}{arguments})")
    if loaded.added_token_ids and not base.is_exported:
        code.append("base.resize_token_embeddings(len(tokenizer))  # the tokenizer has new tokens")
    code.append("model = PeftModel.from_pretrained(base, folder)")
    if stops:
        code.append("model.generation_config = GenerationConfig.from_pretrained(folder)")
        ends += " PEFT generates with the base model's generation config, which may name other tokens: set it as below."
    answers = compare_answers(loaded.model) if stops else "same"
    if answers == "same without cache":
        code.append("model.generation_config.use_cache = False  # see above")
    notes = [note] if (note := answers_note(answers)) else []
    where = [f"The base model is in the folder `{BASE_FOLDER}`, because no repository has it."] * base.is_exported
    return "\n\n".join([*([ends] if stops else []), *notes, *where, _block(code), *_answer(stops, loaded)])


def _answer(stops: Sequence[str], loaded: LoadedModel) -> list[str]:
    """Return paragraphs of the model card that show how to answer a prompt with the exported model.

    There are none if the model does not generate text or its tokenizer has no chat template.

    Args:
        stops: tokens that end an answer; empty if the model does not generate text.
        loaded: the exported model.
    """
    if not stops or not loaded.tokenizer.chat_template:
        return []
    start = "" if loaded.family == "encoder-decoder" else ", ids.shape[1] :"
    code = [
        'messages = [{"role": "user", "content": "Your prompt"}]',
        'arguments = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}',
        "inputs = tokenizer.apply_chat_template(messages, **arguments)",
        'ids, mask = inputs["input_ids"], inputs["attention_mask"]',
        "output = model.generate(input_ids=ids, attention_mask=mask, do_sample=False)",
        f"print(tokenizer.decode(output[0{start}], skip_special_tokens=True))",
    ]
    return ["To answer a prompt with greedy decoding:", _block(code)]


def _block(lines: Sequence[str]) -> str:
    return "```python\n" + "\n".join(lines) + "\n```"
