"""The limits of files, as the system and libraries report them."""

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from benexp.core.disk_limits import limit_reached, limits_named, reason
from benexp.core.errors import BenexpError


@pytest.fixture
def small_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_each_limit_has_its_remedy(small_files: None) -> None:
    words = {number: reason(OSError(number, os.strerror(number))) for number in (errno.EDQUOT, errno.ENOSPC)}
    assert "quota" in words[errno.EDQUOT] and "no room" in words[errno.ENOSPC]
    assert "0.1 MB" in reason(OSError(errno.EFBIG, ""))
    assert reason(OSError(errno.EACCES, "Permission denied")) == "Permission denied"
    assert reason(OSError("odd\nwords")) == "odd words"


def test_a_file_that_can_grow_reaches_no_limit(tmp_path: Path) -> None:
    (tmp_path / "half").touch()
    assert limit_reached([tmp_path / "half"]) is None


def test_a_library_that_drops_the_number_is_seen_through(small_files: None, tmp_path: Path) -> None:
    half, path = tmp_path / "half", tmp_path / "whole"
    with pytest.raises(OSError) as error, limits_named(half, path):
        half.write_bytes(bytes(99_999))
        raise RuntimeError("I/O error")
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(path))
    with pytest.raises(RuntimeError), limits_named(tmp_path / "absent", path):
        raise RuntimeError("something else")
    with pytest.raises(BenexpError), limits_named(half, path):
        raise BenexpError("in words already")
