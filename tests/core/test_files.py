"""Files that exist are complete, and two runs do not build in one folder."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from benexp.core.errors import BenexpError
from benexp.core.files import LOCK, alone_in, locked, replacing, staging


def test_replacing_shows_nothing_before_the_end(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.suffix == ".json"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_replacing_keeps_the_old_file_on_an_error(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_power_may_go_out_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is on the disk before it has its name, and so is the name before anybody goes on."""
    target, other = tmp_path / "run.json", tmp_path / "0-0.npz"
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        done.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def renamed(path: Path, to: Path) -> Path:
        done.append(("rename", path.name))
        return replace(path, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    with replacing(target) as temporary:
        temporary.write_text("{}")
    assert done == [("sync", temporary.name), ("rename", temporary.name), ("sync", tmp_path.name)]
    done.clear()
    with replacing(other, durable=False) as temporary:
        temporary.write_text("")
    assert done == [("rename", temporary.name)]


def test_what_is_not_on_the_disk_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network's file system, which tells only now that the disk is full; others cannot sync at all."""
    target = tmp_path / "run.json"

    def failing(number: int) -> None:
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(number, os.strerror(number))))

    failing(errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"), replacing(target) as temporary:
        temporary.write_text("{}")
    assert not list(tmp_path.iterdir())
    failing(errno.EINVAL)
    with replacing(target) as temporary:
        temporary.write_text("{}")
    assert list(tmp_path.iterdir()) == [target]


def test_replacing_writes_through_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "report.json").symlink_to(victim)
    with replacing(tmp_path / "report.json") as temporary:
        temporary.write_text("new")
    assert victim.read_text() == "precious"
    assert (tmp_path / "report.json").read_text() == "new"
    assert not (tmp_path / "report.json").is_symlink()


def test_two_may_write_one_file(tmp_path: Path) -> None:
    """Each to a file of its own, and the last one to finish has written it."""
    target = tmp_path / "collection.json"
    with replacing(target) as one, replacing(target) as other:
        one.write_text("one")
        other.write_text("other")
        assert one != other
    assert target.read_text() == "one"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    """At once by who holds the folder's lock; after a day by who writes the same file: its writer may be alive."""
    code = (
        "import os, pathlib, signal, sys; from benexp.core.files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as half: half.touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    target = tmp_path / "report.json"
    subprocess.run([sys.executable, "-c", code, str(target)], check=False, env={**os.environ})
    (left,) = tmp_path.iterdir()
    own = tmp_path / "report.partial.json"
    own.write_text("a user's")
    with replacing(target) as temporary:
        temporary.write_text("new")
    assert left.exists()
    with alone_in(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {target.name, own.name, LOCK}
    for age, stays in ((23, True), (25, False)):
        left.touch()
        os.utime(left, (time.time() - age * 3600,) * 2)
        with replacing(tmp_path / "other.json") as temporary:
            temporary.touch()
        assert left.exists()
        with replacing(target) as temporary:
            temporary.write_text("new")
        assert left.exists() == stays


def test_the_lock_is_no_link_to_what_it_would_empty(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".lock").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"), staging(tmp_path):
        pytest.fail("it was followed")
    assert victim.read_text() == "precious"


def test_staging_leaves_only_what_was_moved_out(tmp_path: Path) -> None:
    with staging(tmp_path) as unfinished:
        (unfinished / "kept").write_text("")
        (unfinished / "dropped").write_text("")
        (unfinished / "kept").replace(tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_second_run_is_refused_while_the_first_builds(tmp_path: Path) -> None:
    with staging(tmp_path):
        before = list(tmp_path.iterdir())
        with pytest.raises(BenexpError, match="another run is writing there"), staging(tmp_path):
            pass
        assert list(tmp_path.iterdir()) == before
    assert not list(tmp_path.iterdir())
    with staging(tmp_path):
        pass


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys; from benexp.core.files import staging\n"
        "with staging(pathlib.Path(sys.argv[1])) as unfinished:\n"
        "    (unfinished / 'half.tif').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, env={**os.environ})
    assert list(tmp_path.glob("*/half.tif"))
    with staging(tmp_path) as unfinished:
        assert {path.name for path in tmp_path.iterdir()} == {unfinished.name, LOCK}
    assert not list(tmp_path.iterdir())


def test_a_lock_that_was_removed_while_it_was_waited_for_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, removed = fcntl.flock, []

    def late(file: IO[str], how: int) -> None:
        flock(file, how)
        if not removed:
            removed.append(file.name)
            Path(file.name).unlink()

    monkeypatch.setattr(fcntl, "flock", late)
    with staging(tmp_path):
        assert removed
        with pytest.raises(BenexpError, match="another run is writing there"), staging(tmp_path):
            pass


def test_where_nothing_can_be_locked_it_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unable(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", unable)
    with staging(tmp_path):
        assert "cannot be locked (Function not implemented): see that no other run writes there" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_lock_is_freed_however_its_holder_ends(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys; from benexp.core.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "x.lock"
    ended = subprocess.run([sys.executable, "-c", code, str(path)], check=False, env={**os.environ})
    assert ended.returncode == -signal.SIGKILL and path.exists()
    with locked(path), path.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_file_that_another_run_writes_under_its_own_lock_is_left(tmp_path: Path) -> None:
    partial = tmp_path / "t_grid.partial-0123abcd.npz"
    with locked(tmp_path / ".t_grid.lock"):
        partial.touch()
        with alone_in(tmp_path):
            assert partial.exists()
    with alone_in(tmp_path):
        assert not partial.exists()


def test_a_file_system_without_locks_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuses)
    with locked(tmp_path / "lock"), alone_in(tmp_path):
        pass
    assert [message.count("cannot be locked") for message in caplog.messages] == [1, 1]
