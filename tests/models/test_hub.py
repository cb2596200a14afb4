"""The Hub itself is not asked: its cache is laid out by hand, and its answers are put in its mouth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from benexp.core.errors import BenexpError
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from tests.models.builders import model_config

huggingface_hub = pytest.importorskip("huggingface_hub")
from huggingface_hub import errors  # noqa: E402

REPO = "BIFOLD-BigEarthNetv2-0/small-s2-v0.2.0"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = model_config(weights="hub", repo_id=REPO, revision="main")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of huggingface_hub, and no way out."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def put_in_cache(cache: Path, spec: ModelSpec, names: tuple[str, ...] = ("config.json", "model.safetensors")) -> Path:
    """What huggingface_hub leaves behind after it fetched `spec`'s files as REPO at main."""
    repository = cache / f"models--{REPO.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot.mkdir(parents=True)
    for name in names:
        (snapshot / name).symlink_to(spec.path / name)
    return snapshot


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., str]) -> list[dict[str, Any]]:
    """Let `answer` stand for the Hub; the list fills with what it was asked."""
    asked: list[dict[str, Any]] = []

    def download(repo_id: str, **arguments: Any) -> str:
        asked.append({"repo_id": repo_id, **arguments})
        return answer(**arguments)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def raising(error: Exception) -> Callable[..., str]:
    def answer(**_: Any) -> str:
        raise error

    return answer


def http_error(kind: type[Exception]) -> Exception:
    response = requests.Response()
    response.status_code = 404
    return kind("404 Client Error", response=response)


def test_offline_with_a_cache_works_and_records_the_commit(hub_cache: Path, small_model: ModelSpec) -> None:
    snapshot = put_in_cache(hub_cache, small_model)
    spec = resolve(CONFIG)
    assert spec.path == snapshot
    assert spec.revision == COMMIT
    assert spec.source == REPO
    assert spec.weights_hash == small_model.weights_hash
    assert spec.trained


def test_offline_without_a_cache_says_so_in_one_line(hub_cache: Path) -> None:
    with pytest.raises(BenexpError, match=f"{REPO} at main is not in the local cache and the Hub") as raised:
        resolve(CONFIG)
    assert "\n" not in str(raised.value)
    assert "model.weights=folder" in str(raised.value)


def test_a_download_that_was_broken_off_is_not_taken(hub_cache: Path, small_model: ModelSpec) -> None:
    put_in_cache(hub_cache, small_model, names=("config.json",))
    with pytest.raises(BenexpError, match=r"lacks config\.json or model\.safetensors"):
        resolve(CONFIG)


@pytest.mark.parametrize(
    "error",
    [
        requests.ConnectionError("no route"),
        requests.Timeout("slow"),
        errors.LocalEntryNotFoundError("no network"),
        http_error(errors.HfHubHTTPError),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failed_connection_falls_back_to_the_cache(
    error: Exception, small_model: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = put_in_cache(tmp_path, small_model)

    def answer(*, local_files_only: bool, **_: Any) -> str:
        if not local_files_only:
            raise error
        return str(snapshot)

    asked = answering(monkeypatch, answer)
    assert resolve(CONFIG).revision == COMMIT
    assert [question["local_files_only"] for question in asked] == [False, True]


def test_only_the_two_files_are_asked_for(
    small_model: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = put_in_cache(tmp_path, small_model)
    asked = answering(monkeypatch, lambda **_: str(snapshot))
    assert resolve({**CONFIG, "revision": "v1"}).revision == COMMIT
    assert asked == [
        {
            "repo_id": REPO,
            "revision": "v1",
            "allow_patterns": ["config.json", "model.safetensors"],
            "local_files_only": False,
        }
    ]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (http_error(errors.RepositoryNotFoundError), rf"model\.repo_id={REPO}: no such repository"),
        (http_error(errors.GatedRepoError), rf"model\.repo_id={REPO} is gated"),
        (http_error(errors.RevisionNotFoundError), r"model\.revision=main: no such revision"),
        (errors.HFValidationError("bad"), rf"model\.repo_id={REPO} is no repository id"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_does_not_exist_is_named(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, raising(error))
    with pytest.raises(BenexpError, match=message):
        resolve(CONFIG)
    # A cached copy of something else must not be taken for it.
    assert len(asked) == 1
