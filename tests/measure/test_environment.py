"""What a run says of the machine it ran on."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from benexp.measure import environment as module
from benexp.measure.environment import environment, peak_memory


def test_it_names_machine_and_versions() -> None:
    found = environment()
    assert found["cores"] >= 1
    assert found["libraries"]["numpy"] == np.__version__
    assert found["machine_cores"] >= found["cores"]
    assert found["git_dirty"] in (None, str(found["git_revision"]).endswith("-dirty"))


def test_it_goes_into_json_and_names_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    assert "secret-host" not in json.dumps(environment())


def test_another_host_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    before = module._machine()
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    assert module._machine() != before


def test_no_engine_is_imported_for_its_version() -> None:
    code = """
import sys
from benexp.measure.environment import environment
environment()
print(*{"torch", "onnxruntime", "openvino", "tensorrt", "rasterio", "sklearn", "pynvml"} & set(sys.modules))"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"box/memory.max": "6000000000\n", "memory.max": "7000000000\n"}, 6.0),
        ({"box/memory.max": "max\n"}, None),
        ({"memory/memory.limit_in_bytes": "5000000000\n"}, 5.0),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({}, None),
    ],
)
def test_memory_that_control_groups_allow(
    files: dict[str, str], limit: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path, {"proc/self/cgroup": "0::/box\n", **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}
    )
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=8e9))
    assert module._memory_limit(tmp_path) == limit


def test_gpus_without_the_package(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57.08  Built\n",
            "proc/driver/nvidia/gpus/0000:17:00.0/information": "Model: \t\t NVIDIA L4\nIRQ:   \t\t 5\n",
        },
    )
    assert module._gpu_driver(tmp_path) == "575.57.08"
    assert module._named_gpus(tmp_path) == [{"name": "NVIDIA L4", "memory_gb": None, "power_limit_watts": None}]


def test_no_driver_no_gpus(tmp_path: Path) -> None:
    assert module._gpu_driver(tmp_path) is None
    assert module._named_gpus(tmp_path) == []


def test_a_peak_stays_after_the_memory_is_freed() -> None:
    block = np.ones(25_000_000)
    held = peak_memory()
    size = block.nbytes
    del block
    assert held > size
    # The kernel counts pages per thread and adds them up late.
    assert peak_memory() > 0.95 * held


def test_a_peak_is_not_inherited() -> None:
    block = np.ones(50_000_000)
    code = "from benexp.measure.environment import peak_memory; print(peak_memory())"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert child < block.nbytes


def test_available_memory_is_what_the_control_group_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=9000))
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.stat").write_text("anon 3000\nfile 5000\n")
    (group / "memory.max").write_text("max\n")
    assert module.available_memory(tmp_path) == 9000
    # Cached files do not count: they are given up for programs.
    (group / "memory.max").write_text("10000\n")
    assert module.available_memory(tmp_path) == 7000
