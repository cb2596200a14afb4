"""What a run takes, measured on this process doing known things."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from benexp.measure import nvml, resources
from benexp.measure.resources import POINTS, ResourceSampler, _PackageEnergy
from tests.measure.test_nvml import Library

NEVER = 3600.0


def test_start_end_and_peak_of_memory() -> None:
    with ResourceSampler(interval=0.01) as sampler:
        seen = len(sampler._samples)
        block = np.ones(8_000_000)
        while len(sampler._samples) < seen + 3:
            time.sleep(0.01)
        del block
    found = sampler.usage.summary()
    assert found.peak["rss_bytes"] > found.start["rss_bytes"] + 50_000_000
    assert found.end["rss_bytes"] < found.peak["rss_bytes"] - 50_000_000
    assert found.samples == len(sampler.usage.samples) > 4
    json.dumps(asdict(found))


@pytest.mark.parametrize(
    ("noted", "is_of_this_run"),
    [((10**12, 2 * 10**12), True), ((10**12, 10**12), False)],
    ids=["between two looks", "before the run"],
)
def test_a_peak_that_the_kernel_noted(
    noted: tuple[int, int], is_of_this_run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "peak_memory", iter(noted).__next__)
    with ResourceSampler(interval=NEVER) as sampler:
        pass
    sampled = max(sample.rss_bytes for sample in sampler.usage.samples)
    assert sampler.usage.run_peak_rss_bytes == (noted[1] if is_of_this_run else sampled)
    # What loading took is none of the run's, and the machine must have it all the same.
    assert sampler.usage.peak_rss_bytes == noted[1]


def test_processor_time_of_the_run_and_what_it_starts() -> None:
    spin = "import time\nwhile time.process_time() < 0.5: pass"
    with ResourceSampler(interval=NEVER) as sampler:
        until = time.process_time() + 0.5
        while time.process_time() < until:
            pass
        subprocess.run([sys.executable, "-c", spin], check=True)
    assert sampler.usage.cpu_seconds == pytest.approx(1.05, abs=0.3)
    assert sampler.usage.seconds >= 0.5
    assert sampler.usage.samples[-1].cpu_percent == pytest.approx(
        100 * sampler.usage.cpu_seconds / sampler.usage.seconds, rel=0.2
    )


def test_a_running_child_counts() -> None:
    wait = "import sys, numpy; block = numpy.ones(8_000_000); print('ready', flush=True); sys.stdin.read()"
    with ResourceSampler(interval=NEVER) as sampler:
        child = subprocess.Popen([sys.executable, "-c", wait], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
    child.communicate()
    start, end = sampler.usage.samples
    assert end.processes == start.processes + 1
    assert end.rss_bytes > start.rss_bytes + 64_000_000
    assert end.open_files > start.open_files


def test_threads_count_and_the_own_one_ends() -> None:
    release = threading.Event()
    workers = [threading.Thread(target=release.wait) for _ in range(3)]
    before = threading.active_count()
    with ResourceSampler(interval=NEVER) as sampler:
        for worker in workers:
            worker.start()
    assert sampler.usage.samples[-1].threads >= sampler.usage.samples[0].threads + 3
    release.set()
    for worker in workers:
        worker.join()
    assert threading.active_count() == before


def test_a_run_that_is_too_short_has_no_rates() -> None:
    with ResourceSampler(interval=NEVER) as sampler:
        pass
    assert sampler.usage.other_cores is None
    assert "cpu_percent" not in sampler.usage.summary().peak


def test_the_gpu_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_nvml", Library)
    monkeypatch.setattr(Library, "energy", 0)
    monkeypatch.setattr(Library, "joules", lambda self, handle: next(counted))
    counted = iter([10_000, 12_500])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with ResourceSampler("cuda:1", interval=NEVER) as sampler:
        pass
    assert sampler.usage.device_joules == 2.5
    assert sampler.usage.samples[-1].device_memory_bytes == 3_000_000
    assert sampler.usage.samples[-1].device_watts == 123.4


def test_a_run_outlives_its_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def fail(_: object) -> float:
        failed.set()
        raise OSError("no such counter")

    with ResourceSampler(interval=0.01) as sampler:
        monkeypatch.setattr(resources, "_megahertz", fail)
        failed.wait(10)
    assert sampler.usage.error is not None and "no such counter" in sampler.usage.error
    assert sampler.usage.summary().error == sampler.usage.error


def test_frequency_is_of_the_fastest_core(tmp_path: Path) -> None:
    for core, kilohertz in enumerate(("1200000\n", "3400000\n", "<unknown>\n")):
        (tmp_path / str(core)).write_text(kilohertz)
    assert resources._megahertz(sorted(tmp_path.iterdir())) == 3400.0
    assert resources._megahertz([]) is None


def zone(sys_: Path, name: str, kind: str, microjoules: int) -> Path:
    folder = sys_ / "class/powercap" / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{kind}\n")
    (folder / "max_energy_range_uj").write_text("1000000\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def test_energy_adds_packages_and_starts_again_at_zero(tmp_path: Path) -> None:
    one, two = zone(tmp_path, "intel-rapl:0", "package-0", 900_000), zone(tmp_path, "intel-rapl:1", "package-1", 0)
    part, all_of_it = zone(tmp_path, "intel-rapl:0:0", "core", 0), zone(tmp_path, "intel-rapl:2", "psys", 0)
    energy = _PackageEnergy(tmp_path)
    for file, microjoules in ((one, 100_000), (two, 300_000), (part, 1), (all_of_it, 1)):
        file.write_text(str(microjoules))
    energy.look()
    # From 0.9 J over 1 J to 0.1 J, and from 0 to 0.3 J.
    assert energy.joules() == pytest.approx(0.5)


def test_energy_is_unknown_without_counters(tmp_path: Path) -> None:
    assert _PackageEnergy(tmp_path).joules() is None


def test_a_report_keeps_few_samples_and_the_peak_is_among_them() -> None:
    with ResourceSampler() as sampler:
        pass
    first = sampler.usage.samples[0]
    samples = tuple(replace(first, seconds=i, rss_bytes=i % 997, device_memory_bytes=None) for i in range(1999))
    found = replace(sampler.usage, samples=samples).summary().over_time
    assert len(found["seconds"]) == len(found["rss_bytes"]) == POINTS
    assert max(found["rss_bytes"]) == 996 and found["seconds"] == sorted(found["seconds"])
    assert "device_memory_bytes" not in found
