"""Fetching a published checkpoint from the Hugging Face Hub, or from its local cache."""

from pathlib import Path

from benexp.core.errors import BenexpError
from benexp.models.published import CONFIG, WEIGHTS


def fetch(repo_id: str, revision: str) -> tuple[Path, str]:
    """The folder of `repo_id` at `revision` (branch, tag or commit) and the commit it resolved to.

    Only the two files of the published format are fetched, into huggingface_hub's cache. Without a network the cached
    commit of that revision is taken.

    Raises BenexpError where the repository or revision does not exist, or there is neither network nor cache.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
        from requests.exceptions import RequestException
    except ModuleNotFoundError as error:
        raise BenexpError(
            f"model.weights=hub needs {error.name}: pip install 'benexp[torch]', or use model=onnx"
        ) from error

    wanted = (CONFIG, WEIGHTS)

    def download(*, cached_only: bool) -> Path:
        return Path(
            snapshot_download(repo_id, revision=revision, allow_patterns=list(wanted), local_files_only=cached_only)
        )

    try:
        folder = download(cached_only=False)
    except GatedRepoError as error:
        raise BenexpError(f"model.repo_id={repo_id} is gated: ask for access there, then log in") from error
    except RepositoryNotFoundError as error:
        raise BenexpError(f"model.repo_id={repo_id}: no such repository on the Hub, or a private one") from error
    except RevisionNotFoundError as error:
        raise BenexpError(f"model.revision={revision}: no such revision of {repo_id} on the Hub") from error
    except HFValidationError as error:
        raise BenexpError(f"model.repo_id={repo_id} is no repository id: it reads owner/name") from error
    # LocalEntryNotFoundError is what huggingface_hub makes of most failed connections.
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, RequestException, OSError) as error:
        try:
            folder = download(cached_only=True)
        except LocalEntryNotFoundError:
            raise _unreachable(repo_id, revision) from error
    if not all((folder / name).is_file() for name in wanted):
        # A download that was broken off leaves such a folder; so does a repository in another format.
        raise BenexpError(f"{repo_id} at {revision} lacks {' or '.join(wanted)} ({folder}): try again with a network")
    return folder, folder.name


def _unreachable(repo_id: str, revision: str) -> BenexpError:
    return BenexpError(
        f"{repo_id} at {revision} is not in the local cache and the Hub cannot be reached: "
        f"connect once, or give a local copy with model.weights=folder model.path=FOLDER"
    )
