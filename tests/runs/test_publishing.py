"""Results get their names in an order in which nothing is lost, taken for whole, or left over, whenever that ends."""

import errno
import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benexp.core.files import staging
from benexp.runs.publishing import publish


@dataclass(frozen=True)
class Record:
    files: Any


RECORD = "run.json"
STEPS = ("fsync", "unlink", "replace", "mkdir", "open")
"""Of the module os: what changes a disk, or finds it full."""


def run(folder: Path, *layers: str) -> None:
    """What a run does in the end: each of its files says which layers were asked for."""
    content = " ".join(layers)
    with staging(folder) as unfinished:
        files = [unfinished / f"t_{layer}.tif" for layer in layers]
        for file in files:
            file.write_text(content)
        publish(files, folder, Record({file.name: content for file in files}))


def check_whole(folder: Path) -> None:
    """Where a record is, the files are those that it names."""
    path = folder / RECORD
    if path.exists():
        for name, content in json.loads(path.read_text())["files"].items():
            assert (folder / name).read_text() == content


def interrupted(folder: Path, layers: tuple[str, ...], at: int, end: Callable[[], Any]) -> bool:
    """Run in a process of its own until step `at`, where it ends; whether it came to that step."""
    child = os.fork()
    if child == 0:
        try:
            _count(at, end)
            run(folder, *layers)
        except OSError:
            os._exit(1)
        except BaseException:
            os._exit(3)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1, 9)
    return code != 0


def _count(at: int, end: Callable[[], Any]) -> None:
    steps = itertools.count()

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def counts(*arguments: Any, **named: Any) -> Any:
            if next(steps) == at:
                end()
            return step(*arguments, **named)

        return counts

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    Path.write_text = counted(Path.write_text)  # type: ignore[method-assign]


def killed() -> None:
    os._exit(9)


def disk_is_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("end", [killed, disk_is_full])
@pytest.mark.parametrize("earlier", [(), ("class", "gap")])
def test_whenever_it_ends_the_next_run_leaves_its_own_files_and_nothing_else(
    end: Callable[[], Any], earlier: tuple[str, ...], tmp_path: Path
) -> None:
    for at in itertools.count():
        folder = tmp_path / str(at)
        folder.mkdir()
        (folder / "notes.txt").write_text("the user's own")
        if earlier:
            run(folder, *earlier)
        more = interrupted(folder, ("class", "entropy"), at, end)
        check_whole(folder)
        again = Path(shutil.copytree(folder, tmp_path / f"{at} again"))
        for where, layers in ((folder, ("class",)), (again, ("class", "entropy"))):
            run(where, *layers)
            check_whole(where)
            assert {path.name for path in where.iterdir()} == {
                *("notes.txt", RECORD),
                *(f"t_{layer}.tif" for layer in layers),
            }, f"after it ended at step {at}"
        if not more:
            break
    assert at > 15


def test_no_room_for_the_record_is_found_before_anything_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, "class", "gap")
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    write = Path.write_bytes

    def full(path: Path, *rest: Any, **named: Any) -> int:
        if path.name.startswith("run."):
            disk_is_full()
        return write(path, *rest, **named)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path, "class", "entropy")
    assert {path: path.read_text() for path in tmp_path.iterdir()} == before
