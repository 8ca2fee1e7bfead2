"""Commands that run an exported model with llama.cpp, Ollama or vLLM, for the model card and for the terminal."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path


def model_name(name: str) -> str:
    """Convert a run's name to a name of a model that Ollama and vLLM accept."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "model"


def gguf_commands(file: str) -> list[str]:
    """Return the commands that run a GGUF file with llama.cpp."""
    return [f"llama-cli -m {shlex.quote(file)} --jinja", f"llama-server -m {shlex.quote(file)} --jinja --port 8080"]


def ollama_commands(name: str, modelfile: str = "Modelfile") -> list[str]:
    """Return the commands that add the model of a Modelfile to Ollama and run it."""
    name = model_name(name)
    return [f"ollama create {name} -f {shlex.quote(modelfile)}", f"ollama run {name}"]


def vllm_commands(folder: Path | str, name: str, dtype: str) -> list[str]:
    """Return a list with one shell command, which serves an exported model with vLLM.

    Args:
        folder: the folder of the exported model.
        name: the name by which requests refer to the model.
        dtype: the type of the weights in the folder.
    """
    return [f"vllm serve {shlex.quote(str(folder))} --served-model-name {model_name(name)} --dtype {dtype}"]


def gguf_usage(file: str, stops: Sequence[str]) -> str:
    """Write the section of the model card about how to use a GGUF file."""
    ends = f"Answers end with {' or '.join(f'`{token}`' for token in stops)}; the file names these tokens. "
    return f"{ends}`--jinja` applies the chat template in the file.\n\n{_block(gguf_commands(file))}"


def ollama_usage(name: str) -> str:
    """Write the section of the model card about how to use the Modelfile with Ollama."""
    what = "The `Modelfile` has the template of the training, the tokens that end an answer, and the run's decoding."
    return f"{what}\n\n{_block(ollama_commands(name))}"


def vllm_usage(folder: Path, name: str, dtype: str) -> str:
    """Write the section of the model card about how to serve the model with vLLM."""
    reads = (
        "vLLM reads the chat template from `chat_template.jinja`, and the tokens that end an answer from "
        "`generation_config.json`. Without `--dtype`, it would round weights of type float32 to float16."
    )
    return f"{reads}\n\n{_block(vllm_commands(folder.absolute(), name, dtype))}"


def _block(lines: Sequence[str]) -> str:
    return "```sh\n" + "\n".join(lines) + "\n```"
