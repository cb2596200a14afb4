"""Cores are counted by affinity and quota."""

import os
from pathlib import Path

import pytest

from benexp.core import cores


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_quota(files: dict[str, str], expected: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert cores.quota(tmp_path) == expected


def test_the_least_quota_of_nested_groups_holds(tmp_path: Path) -> None:
    own = tmp_path / "proc/self/cgroup"
    own.parent.mkdir(parents=True)
    own.write_text("0::/outer/inner\n")
    for name, limit in (("outer", "200000"), ("outer/inner", "350000")):
        folder = tmp_path / "sys/fs/cgroup" / name
        folder.mkdir(parents=True)
        (folder / "cpu.max").write_text(f"{limit} 100000\n")
    assert cores.quota(tmp_path) == 2


@pytest.mark.parametrize(("limit", "expected"), [(None, 3), (1.5, 2), (0.2, 1), (64, 3)])
def test_available_is_rounded_up_and_no_more_than_the_affinity(
    limit: float | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 5}, raising=False)
    monkeypatch.setattr(cores, "quota", lambda: limit)
    assert cores.available() == expected


def test_available_is_at_least_one() -> None:
    assert cores.available() >= 1


def test_several_processes_of_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENEXP_CORES", "1")
    assert cores.available() == 1
    monkeypatch.setenv("BENEXP_CORES", "100000")
    assert cores.available() <= (os.cpu_count() or 1)
