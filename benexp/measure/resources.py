"""The resources used during a run: memory, processor time, files, threads, device memory, energy.

A thread takes a sample every half second; the cost of sampling is in every run's record.
"""

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self, TypeVar

import psutil

from benexp.core.errors import one_line
from benexp.measure import nvml
from benexp.measure.environment import peak_memory
from benexp.records.figures import RunUsage, UsageSummary

log = logging.getLogger("benexp")

Number = TypeVar("Number", int, float)

INTERVAL = 0.5
"""Seconds between looks."""

POINTS = 200
"""The largest number of samples of a run that a report keeps."""


@dataclass(frozen=True)
class Sample:
    """One look at this process and those it started; None where the machine does not tell.

    What is a rate is one since an earlier look, and None where that was less than 0.1 s ago.
    """

    seconds: float
    """Since the sampler began."""
    rss_bytes: int
    """Resident memory; pages that processes share count for each."""
    cpu_percent: float | None
    """The processor use in percent of one core: 400 are four cores."""
    other_cores: float | None
    """The work done by the rest of the machine, in cores."""
    stolen_cores: float | None
    """The time that the hypervisor gave to other machines, in cores."""
    load_average: float
    """The load average of the last minute, this process included."""
    open_files: int
    """The number of open files of this process, with pipes and sockets."""
    threads: int
    processes: int
    cpu_mhz: float | None
    """The frequency of the fastest core that this process may use."""
    device_memory_bytes: int | None
    """On the device, by all processes."""
    device_watts: float | None
    device_clock_reasons: int | None
    """Bits of nvml.NvmlGpu.clock_reasons."""


@dataclass(frozen=True, kw_only=True)
class Usage(RunUsage):
    """The resources that a run took, with all samples."""

    samples: tuple[Sample, ...]
    """In order, from the beginning to the end."""

    def summary(self) -> UsageSummary:
        """Each value at the start, at the end and its peak, where it is known, and those of the whole run.

        Rates at the start are the first known.
        """
        names = [field.name for field in fields(Sample) if field.name not in ("seconds", "device_clock_reasons")]
        series = {
            name: [value for sample in self.samples if (value := getattr(sample, name)) is not None] for name in names
        }
        series = {name: values for name, values in series.items() if values}
        whole = {field.name: getattr(self, field.name) for field in fields(RunUsage)}
        return UsageSummary(
            start={name: values[0] for name, values in series.items()},
            end={name: values[-1] for name, values in series.items()},
            peak={name: max(values) for name, values in series.items()} | {"rss_bytes": self.run_peak_rss_bytes},
            samples=len(self.samples),
            over_time=self._over_time(),
            **whole,
        )

    def _over_time(self) -> dict[str, list[int | float | None]]:
        """Memory and processor time by moments: at most POINTS, each the sample of a stretch with the most memory."""
        count = len(self.samples)
        stretches = min(count, POINTS)
        ends = [count * i // stretches for i in range(stretches + 1)]
        shown = [max(self.samples[a:b], key=lambda sample: sample.rss_bytes) for a, b in itertools.pairwise(ends)]
        names = ("seconds", "rss_bytes", "cpu_percent", "device_memory_bytes")
        series = {name: [getattr(sample, name) for sample in shown] for name in names}
        return {name: values for name, values in series.items() if any(value is not None for value in values)}


class ResourceSampler:
    """A context that samples this process, and those it starts, until it is left; then `usage` says what it took.

    `device` is a backend's: of `cuda` and `cuda:1` the GPU is sampled, too. Where sampling fails the run goes on, and
    its usage says so.
    """

    usage: Usage

    def __init__(self, device: str = "cpu", interval: float = INTERVAL, sys: Path = Path("/sys")) -> None:
        self._gpu = nvml.gpu(device)
        self._interval = interval
        self._frequencies = _frequency_files(sys)
        self._energy = _PackageEnergy(sys)
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="resource-sampler", daemon=True)
        self._samples: list[Sample] = []
        self._error: str | None = None
        self._cost = 0.0

    def __enter__(self) -> Self:
        self._peak_before = peak_memory()
        self._joules_before = self._gpu.joules() if self._gpu else None
        self._began = self._before = self._count(self._processes())
        self._samples.append(self._look())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is None:
            self._samples.append(self._look())
        peak = peak_memory()
        sampled = max(sample.rss_bytes for sample in self._samples)
        joules = self._gpu.joules() if self._gpu else None
        ended = self._count(self._processes())
        seconds = ended.seconds - self._began.seconds
        rates = ended.since(self._began) if seconds >= 1 else None
        self.usage = Usage(
            samples=tuple(self._samples),
            seconds=seconds,
            cpu_seconds=ended.used - self._began.used,
            other_cores=rates.others if rates else None,
            stolen_cores=rates.stolen if rates else None,
            # An earlier peak of the process is none of this run's.
            run_peak_rss_bytes=max(sampled, peak) if peak > self._peak_before else sampled,
            peak_rss_bytes=max(sampled, peak),
            cpu_joules=self._energy.joules(),
            device_joules=None if joules is None or self._joules_before is None else joules - self._joules_before,
            sampler_cpu_seconds=self._cost,
            error=self._error,
        )

    def _watch(self) -> None:
        try:
            while not self._stop.wait(self._interval):
                self._samples.append(self._look())
        except Exception as error:
            self._error = one_line(error)
            log.warning("the run's resources are not measured from here on: %s", self._error)
        self._cost = time.thread_time()

    def _look(self) -> Sample:
        processes, gpu = self._processes(), self._gpu
        counted = self._count(processes)
        rates = None
        # The machine counts in hundredths of a second: over a few of them a rate is noise.
        if counted.seconds - self._before.seconds >= 0.1:
            rates = counted.since(self._before)
            self._before = counted
        self._energy.look()
        return Sample(
            seconds=round(counted.seconds - self._began.seconds, 3),
            rss_bytes=sum(_or_0(process, lambda p: p.memory_info().rss) for process in processes),
            cpu_percent=round(100 * rates.used, 1) if rates else None,
            other_cores=rates.others if rates else None,
            stolen_cores=rates.stolen if rates else None,
            load_average=round(os.getloadavg()[0], 2),
            open_files=self._process.num_fds(),
            threads=sum(_or_0(process, lambda p: p.num_threads()) for process in processes),
            processes=len(processes),
            cpu_mhz=_megahertz(self._frequencies),
            device_memory_bytes=gpu.memory_used() if gpu else None,
            device_watts=gpu.watts() if gpu else None,
            device_clock_reasons=gpu.clock_reasons() if gpu else None,
        )

    def _processes(self) -> list[psutil.Process]:
        """The own one and all that it started, directly or not."""
        return [self._process, *_descendants(self._process)]

    @staticmethod
    def _count(processes: Iterable[psutil.Process]) -> "_Counted":
        machine = psutil.cpu_times()
        # Guests are in user and nice already.
        busy = sum(getattr(machine, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
        # With the children that have ended and been waited for.
        used = sum(_or_0(process, lambda p: sum(p.cpu_times()[:4])) for process in processes)
        return _Counted(time.perf_counter(), used, busy, getattr(machine, "steal", 0.0))


class _Rates(NamedTuple):
    """In cores."""

    used: float
    others: float
    stolen: float


class _Counted(NamedTuple):
    """Seconds of the clock, and of all cores: that the run has used, that all have worked, that were stolen."""

    seconds: float
    used: float
    busy: float
    stolen: float

    def since(self, before: "_Counted") -> _Rates:
        elapsed = self.seconds - before.seconds
        # A process that has ended takes its time along until its parent asks for it.
        used = max(0.0, self.used - before.used)
        others = max(0.0, self.busy - before.busy - used)
        stolen = max(0.0, self.stolen - before.stolen)
        return _Rates(*(round(value / elapsed, 3) for value in (used, others, stolen)))


def _or_0(process: psutil.Process, ask: Callable[[psutil.Process], Number]) -> Number | Literal[0]:
    """The value that `ask` gives for a process; 0 if the process has ended meanwhile or denies access."""
    try:
        return ask(process)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    """Linux lists children by thread, in a tenth of the time that going through all processes takes."""
    tasks = f"/proc/{process.pid}/task"
    if not os.path.exists(f"{tasks}/{process.pid}/children"):
        return process.children(recursive=True)
    found: list[psutil.Process] = []
    # Threads and processes end while they are listed.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        for task in os.listdir(tasks):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
                with open(f"{tasks}/{task}/children") as file:
                    children = [psutil.Process(int(pid)) for pid in file.read().split()]
                for child in children:
                    found += [child, *_descendants(child)]
    return found


def _frequency_files(sys: Path) -> list[Path]:
    """The frequency files of at most eight usable cores: reading one takes the kernel some time."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    files = (sys / f"devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq" for core in usable[:8])
    return [file for file in files if file.exists()]


def _megahertz(files: Iterable[Path]) -> float | None:
    found = [int(text) / 1000 for file in files if (text := file.read_text().strip()).isdigit()]
    return max(found, default=None)


class _PackageEnergy:
    """The energy counters of the processor's packages (RAPL), which start again at 0 every few minutes to hours."""

    def __init__(self, sys: Path) -> None:
        self._counters: dict[Path, int] = {}
        self._ranges: dict[Path, int] = {}
        self._microjoules = 0
        # intel-rapl is its name on AMD's processors, too. Zones within a package are parts of it.
        for zone in sorted((sys / "class/powercap").glob("intel-rapl:*")):
            if zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package"):
                file = zone / "energy_uj"
                # Most systems let nobody but root read them.
                if os.access(file, os.R_OK):
                    self._counters[file] = int(file.read_text())
                    self._ranges[file] = int((zone / "max_energy_range_uj").read_text())

    def look(self) -> None:
        for file, before in self._counters.items():
            now = int(file.read_text())
            self._microjoules += now - before if now >= before else now - before + self._ranges[file]
            self._counters[file] = now

    def joules(self) -> float | None:
        return self._microjoules / 1e6 if self._counters else None
