"""Upload an exported model to a model hub, with its card and the results of the run."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import Any

from instruct_lab import secrets
from instruct_lab.errors import InstructLabError, one_line, started, wrap_errors
from instruct_lab.export.adapter import BASE_FOLDER
from instruct_lab.export.export import Export, export
from instruct_lab.files import write_json

RESULTS = "results.json"
"""Name of the file in the uploaded folder that holds the metrics of the run."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A repository on a model hub, to which an export is uploaded.

    Args:
        repository: name of the repository, `ORG/NAME`.
        is_public: whether everyone may read the repository.
        token: the user's access token for the hub; `None` for a dry run.
    """

    repository: str
    is_public: bool
    token: str | None


def find_target(repository: str, is_public: bool, is_dry_run: bool) -> Target:
    """Check the name of a repository, and find the user's access token, without a request to the hub.

    Args:
        repository: name of the repository, `ORG/NAME`.
        is_public: whether everyone may read the repository.
        is_dry_run: whether nothing will be uploaded, so that no token is needed.

    Raises:
        InstructLabError: the name is not valid for a repository, or (unless it is a dry run) there is no token or
            `HF_HUB_OFFLINE` is set.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repository)
        if repository.count("/") != 1:
            raise HFValidationError("it has no organisation or user before the name")
    except HFValidationError as error:
        what = f"{repository!r} is no name of a repository ({one_line(error)})"
        raise InstructLabError(what, where="the command line", do="give ORG/NAME, such as my-team/my-model") from error
    if is_dry_run:
        return Target(repository, is_public, None)
    if constants.HF_HUB_OFFLINE:
        what = "HF_HUB_OFFLINE is set, so nothing can be uploaded"
        raise InstructLabError(what, where="the environment", do="unset HF_HUB_OFFLINE, or add --dry-run")
    token = get_token()
    if token is None:
        what = "There is no token of the hub, which an upload needs"
        do = "create one with write access in your settings on the hub, and run `hf auth login` or set HF_TOKEN"
        raise InstructLabError(what, where="HF_TOKEN and the hub's login", do=do)
    secrets.remember(token, "HF_TOKEN")
    return Target(repository, is_public, token)


def write_for_push(job: Export) -> tuple[Export, list[tuple[str, int]]]:
    """Export a model and the run's metrics to a new temporary folder within the run's record.

    The caller removes the temporary folder; the export is in a subfolder of it.

    Args:
        job: the export; its path is ignored.

    Returns:
        The export with the path to which it was written, and the name and the size in bytes of each of its files.

    Raises:
        InstructLabError: the model cannot be exported or written, or it is an adapter whose base model had to be
            exported too, because no repository or folder has it.
    """
    do = "free disk space, or change the folder's permissions"
    with wrap_errors(OSError, what="The model cannot be written", where=str(job.record.path), do=do):
        folder = Path(tempfile.mkdtemp(prefix=".push-", dir=job.record.path))
    try:
        job = export(dataclasses.replace(job, path=folder / "export"))
        if (job.path / BASE_FOLDER).is_dir():
            raise InstructLabError(
                "The base model of this adapter is in no repository, so nobody else could load the adapter",
                where=f"run {job.record.id}",
                do="push the merged model with --format hf",
            )
        metrics = {} if job.record.summary is None else job.record.summary.metrics
        write_json(job.path / RESULTS, {"run": job.record.id, "name": job.record.name, "metrics": metrics})
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    files = sorted(file for file in job.path.rglob("*") if file.is_file())
    return job, [(file.relative_to(job.path).as_posix(), file.stat().st_size) for file in files]


def upload(folder: Path, target: Target) -> str:
    """Upload a folder to the target's repository in one commit, and return the URL of the repository.

    A repository that does not exist is created.

    Raises:
        InstructLabError: the hub refuses the upload or cannot be reached, or the repository is public although
            `target.is_public` is false.
    """
    from huggingface_hub import HfApi

    api: Any = HfApi(token=target.token, library_name="instruct_lab")
    what, do = (
        f"The model cannot be pushed to {target.repository}",
        "check the token's rights, the name and the network",
    )
    with started(), wrap_errors(what=what, where=str(api.endpoint), do=do):
        url = api.create_repo(target.repository, private=not target.is_public, exist_ok=True)
        if not target.is_public and not api.model_info(target.repository).private:
            raise InstructLabError(
                f"The repository {target.repository} is public, and the model would be, too",
                where=str(url),
                do="add --public, choose another name, or make the repository private first",
            )
        api.upload_folder(
            repo_id=target.repository, folder_path=folder, commit_message="Upload a model tuned with instruct_lab"
        )
    return str(url)
