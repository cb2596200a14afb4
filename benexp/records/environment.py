"""The environment of a run: machine, interpreter and library versions."""

from typing import TypedDict


class GpuFacts(TypedDict):
    """One GPU; null where the machine does not report a value."""

    name: str
    memory_gb: float | None
    power_limit_watts: float | None


class Environment(TypedDict):
    """The facts that `benexp.measure.environment.environment` collects."""

    benexp: str
    git_revision: str | None
    git_dirty: bool | None
    python: str
    system: str
    os: str | None
    machine: str
    """Identifies the machine without naming it."""
    processor: str
    cores: int
    machine_cores: int | None
    cpu_quota: float | None
    memory_gb: float
    memory_limit_gb: float | None
    gpus: list[GpuFacts]
    gpu_driver: str | None
    libraries: dict[str, str]
