"""MLflow's metrics of the system, sampled while work goes on."""

import contextlib
import time
from typing import Any

from benexp.tracking.mlflow_client import SAMPLES

INTERVAL = 2
"""Seconds between samples, at first, where MLflow's own variable sets no others."""


class SystemSampler:
    """MLflow's own system metrics, kept until there is a run to log them in: nothing is sent while work goes on."""

    def __init__(self) -> None:
        from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
        from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

        self.interval = float(MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or INTERVAL)
        self._monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        for kind in (GPUMonitor, ROCMMonitor):
            # They raise many kinds of errors where there is no such GPU, or no library to ask it.
            with contextlib.suppress(Exception):
                self._monitors.append(kind())
        self._taken: list[dict[str, Any]] = []
        self._look()  # Load is counted from one look to the next.

    def _look(self) -> dict[str, float]:
        metrics = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            metrics.update(monitor.aggregate_metrics())
            monitor.clear_metrics()
        return {f"system/{name}": float(value) for name, value in metrics.items()}

    def sample(self) -> None:
        self._taken.append({"time": time.time(), "metrics": self._look()})
        if len(self._taken) >= 4 * SAMPLES:
            # Days of work: every second sample, from now on.
            self._taken = self._taken[::2]
            self.interval *= 2

    def between(self, began: float, ended: float) -> list[dict[str, Any]]:
        """The samples of a span of time; of a span shorter than the interval the one that is nearest."""
        within = [sample for sample in self._taken if began <= sample["time"] <= ended]
        return within or sorted(self._taken, key=lambda sample: abs(sample["time"] - ended))[:1]
