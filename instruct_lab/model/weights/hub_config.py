"""Look-up of a Hub model's commit and `config.json`, on the Hugging Face Hub or in its cache on this machine."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path

from instruct_lab.errors import InstructLabError
from instruct_lab.hub import PINNED, HubUnreachable, ask_hub, hub_errors
from instruct_lab.model.weights.hub import PICKLED_ENDINGS

NAME = re.compile(r"(?P<repository>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[^@\s]+))?")


@dataclasses.dataclass(frozen=True)
class HubModel:
    """A model on the Hub.

    Args:
        repository: the name of the repository, `owner/name`.
        commit: the commit to which the revision was resolved.
        config: path of the downloaded file `config.json`.
        num_bytes: the size of the safetensors files; `None` if there are none or their sizes are unknown.
        notes: sentences for the user about the revision and the weights.
    """

    repository: str
    commit: str
    config: Path
    num_bytes: int | None = None
    notes: tuple[str, ...] = ()


def parse_name(name: str) -> tuple[str, str]:
    """Split a name into the repository and the revision, which is `main` if none is given.

    Raises:
        InstructLabError: the name does not have the form `OWNER/NAME` or `OWNER/NAME@REVISION`.
    """
    found = NAME.fullmatch(name)
    if found is None:
        what = "This is not the name of a repository on the Hub"
        raise InstructLabError(what, where=f"hub:{name}", do="write it as hub:OWNER/NAME or hub:OWNER/NAME@REVISION")
    return found["repository"], found["revision"] or "main"


def find_hub_model(name: str) -> HubModel:
    """Resolve the revision of a model to a commit, and download its `config.json`.

    If the revision is a commit whose `config.json` is already in the Hub's cache, the network is not used. If the Hub
    cannot be reached, any revision that was downloaded before is read from this cache.

    Args:
        name: `OWNER/NAME` or `OWNER/NAME@REVISION`.

    Raises:
        HubUnreachable: the Hub cannot be reached, and the cache does not hold the `config.json`.
        InstructLabError: there is no such model or revision, the model is gated, or it has no `config.json`.
    """
    from huggingface_hub import constants

    return _find(*parse_name(name), constants.HF_HUB_CACHE, bool(constants.HF_HUB_OFFLINE))


@functools.lru_cache(maxsize=64)
def _find(repository: str, revision: str, cache: str, is_offline: bool) -> HubModel:
    cached = _cached(repository, revision, cache)
    if cached is not None and (is_offline or PINNED.fullmatch(revision)):
        return cached
    import huggingface_hub

    try:
        found = ask_hub("model", repository, revision)
        if found.files and "config.json" not in found.files:
            what, do = "The repository has no config.json", _instead(repository, found.files)
            raise InstructLabError(what, where=f"{repository}, revision {revision}", do=do)
        with hub_errors("model", repository, revision):
            config = huggingface_hub.hf_hub_download(repository, "config.json", revision=revision)
    except HubUnreachable:
        if cached is None:
            raise
        note = f"the Hub cannot be reached, so commit {cached.commit[:12]} of its cache is used"
        return dataclasses.replace(cached, notes=(note, *cached.notes))
    commit, files = Path(config).parent.name, found.files  # the cache's folder is named by the commit
    safe = [size for file, size in files.items() if file.endswith(".safetensors") and "/" not in file]
    pickled = [file for file in files if file.endswith(PICKLED_ENDINGS) and "/" not in file]
    notes = [] if revision == commit else [f"{revision} is commit {commit[:12]}"]
    if pickled and not safe:
        notes.append(f"its weights are pickled ({pickled[0]}), which needs model.allow_pickle=true")
    return HubModel(repository, commit, Path(config), sum(size or 0 for size in safe) or None, tuple(notes))


def _cached(repository: str, revision: str, cache: str) -> HubModel | None:
    import huggingface_hub

    try:
        file = huggingface_hub.try_to_load_from_cache(repository, "config.json", cache_dir=cache, revision=revision)
    except ValueError:  # not the name of a repository
        return None
    if not isinstance(file, str):
        return None
    folder = Path(file).parent
    num_bytes = sum(weights.stat().st_size for weights in folder.glob("*.safetensors"))
    notes = () if revision == folder.name else (f"{revision} is commit {folder.name[:12]} in the Hub's cache",)
    return HubModel(repository, folder.name, Path(file), num_bytes or None, notes)


def _instead(repository: str, files: Mapping[str, int | None]) -> str:
    """Return advice on what to do if a repository has no `config.json`."""
    gguf = sorted(file for file in files if file.endswith(".gguf"))
    if gguf:
        return f"type model=hub model.weights.repository={repository} model.weights.gguf_file={gguf[0]}"
    if "adapter_config.json" in files:
        return "it holds only an adapter: name its base model, which its adapter_config.json says"
    return "choose a repository with a model of transformers"
