"""The schema of a configuration: what every key takes. Checked before any work.

The YAML files under conf/ hold the defaults; the classes here hold the types and the limits.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benexp.config.types import TYPES, check_kinds
from benexp.core.errors import BenexpError

INTEGRITY = ("auto", "checksum", "structure", "none")
SCL_CLASSES = range(12)
FORMATS = ("onnx", "openvino", "tensorrt")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
SPLITS = ("train", "validation", "test")
WINDOWS = ("sin2", "gaussian", "flat")
"""Shapes of the blending window; mapping/blending.py defines them."""
EXECUTIONS = ("local", "dask")
MOST = 65536
"""Of workers, of threads, of jobs: what is asked for beyond is a mistake, which the machine would be long at."""
LONGEST = 1e9
"""Seconds that can be waited for."""
REFERENCE_CODES = ("auto", "ids", "clc")


@dataclass
class Task:
    name: str


@dataclass
class Model:
    name: str
    weights: str
    repo_id: str | None = None
    revision: str | None = None
    path: str | None = None
    architecture: str | None = None
    bands: list[str] = field(default_factory=list)


@dataclass
class Chunking:
    chunk_size: int
    patch_size: int
    stride: int
    blend: str
    min_valid: float


@dataclass
class Layers:
    names: list[str]
    probs_dtype: str = "float32"
    thresholds: Any = 0.5
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Region:
    pixels: list[int] | None = None
    bbox: list[float] | None = None
    crs: str | None = None


@dataclass
class Mask:
    scl: list[int] = field(default_factory=list)


@dataclass
class Demo:
    size: int | None = None
    seed: int = 7


@dataclass
class Export:
    format: str
    precision: str
    batch: int | None
    tolerance: dict[str, float]


@dataclass
class Calibration:
    patches: int


@dataclass
class Evaluate:
    patches: str | None
    metadata: str | None
    split: str | None
    reference: str | None
    reference_codes: str
    map: str | None


@dataclass
class Benchmark:
    repeat: int
    warmup: int
    ceiling: bool
    unstable: float
    must_fit: bool


@dataclass
class Serve:
    host: str
    port: int


@dataclass
class Recommend:
    max_memory_gb: float | None
    max_flips_per_million: float | None


@dataclass
class Slurm:
    jobs: int | None = None
    cores: int = 8
    memory: str = "16GB"
    walltime: str = "01:00:00"
    partition: str | None = None
    account: str | None = None
    directives: list[str] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)
    interface: str | None = None


@dataclass
class Execution:
    name: str
    workers: int
    threads: int = 1
    memory: str = "auto"
    address: str | None = None
    patience: float = 60
    slurm: Slurm = field(default_factory=Slurm)


@dataclass
class Tracking:
    name: str
    uri: str | None = None
    experiment: str = "benexp"
    max_file_mb: float = 20
    max_run_mb: float = 200
    patience: float = 60


@dataclass
class Config:
    task: Task
    model: Model
    chunking: Chunking
    backend: dict[str, Any]
    """`_target_` names the class; the other keys are its arguments, so that users' own backends take their own."""
    layers: Layers
    export: Export
    calibration: Calibration
    evaluate: Evaluate
    benchmark: Benchmark
    serve: Serve
    recommend: Recommend
    execution: Execution
    tracking: Tracking
    tile_folder: str | None = None
    input_dir: str | None = None
    output_folder: str = "outputs"
    offset: Any = "auto"
    region: Region = field(default_factory=Region)
    mask: Mask = field(default_factory=Mask)
    integrity: str = "auto"
    resume: bool = True
    seed: int = 0
    dry_run: bool = False
    backends: list[str] = field(default_factory=list)
    demo: Demo = field(default_factory=Demo)


def check(composed: DictConfig) -> Config:
    """The typed configuration. Raises BenexpError naming the key, what it got and what it takes."""
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), composed))
    except OmegaConfBaseException as error:
        raise BenexpError(_explain(error, composed)) from error
    assert isinstance(config, Config)
    check_kinds(config)
    for key, got, right, takes in _limits(config):
        if not right:
            raise BenexpError(f"{key}={got}: takes {takes}")
    return config


def _limits(c: Config) -> list[tuple[str, Any, bool, str]]:
    """Key, value, whether it is right, and what it takes."""
    k, pixels, bbox = c.chunking, c.region.pixels, c.region.bbox
    offset_is_number = isinstance(c.offset, int) and not isinstance(c.offset, bool)
    limits = [
        ("chunking.patch_size", k.patch_size, k.patch_size >= 1, "a whole number from 1"),
        (
            "chunking.chunk_size",
            k.chunk_size,
            k.chunk_size >= k.patch_size,
            f"a whole number from chunking.patch_size={k.patch_size}, or every pixel would be read many times over",
        ),
        (
            "chunking.stride",
            k.stride,
            1 <= k.stride <= k.patch_size,
            f"1 to chunking.patch_size={k.patch_size}, or pixels between the patches would get no class",
        ),
        ("chunking.blend", k.blend, k.blend in WINDOWS, ", ".join(WINDOWS)),
        ("chunking.min_valid", k.min_valid, 0 <= k.min_valid <= 1, "a share from 0 to 1"),
        (
            "offset",
            c.offset,
            c.offset in ("auto", "none") or (offset_is_number and abs(c.offset) < 1 << 16),
            "auto, none or a whole number between -65536 and 65536",
        ),
        ("output_folder", c.output_folder, bool(c.output_folder), "a folder"),
        (
            "backends",
            f"[{','.join(c.backends)}]",
            not c.backends or c.task.name == "compare",
            f"effect with task=compare alone; task={c.task.name} runs the one of backend=",
        ),
        ("integrity", c.integrity, c.integrity in INTEGRITY, ", ".join(INTEGRITY)),
        ("mask.scl", c.mask.scl, all(s in SCL_CLASSES for s in c.mask.scl), "classes from 0 to 11"),
        (
            "region.pixels",
            pixels,
            pixels is None or (len(pixels) == 4 and min(pixels[:2]) >= 0 and min(pixels[2:]) > 0),
            "[row,col,height,width], the first two from 0, the last two from 1",
        ),
        (
            "region.bbox",
            bbox,
            bbox is None or (len(bbox) == 4 and bbox[0] < bbox[2] and bbox[1] < bbox[3]),
            "[west,south,east,north] with west < east and south < north",
        ),
        ("region", "pixels and bbox", pixels is None or bbox is None, "one of the two"),
        ("region.crs", c.region.crs, c.region.crs is None or bbox is not None, "a CRS only beside region.bbox"),
        ("backend._target_", c.backend.get("_target_"), bool(c.backend.get("_target_")), "the class of a backend"),
    ]
    for key, word, says in (("batch_size", "auto", "auto"), ("threads", None, "null: all cores")):
        if key in c.backend:
            value = c.backend[key]
            whole = isinstance(value, int) and not isinstance(value, bool)
            right = value == word or (whole and 1 <= value <= 65536)
            limits.append((f"backend.{key}", value, right, f"a whole number from 1 to 65536, or {says}"))
    fallback = c.backend.get("allow_fallback", False)
    limits.append(("backend.allow_fallback", fallback, isinstance(fallback, bool), "true or false"))
    batch = c.export.batch
    limits.append(("export.format", c.export.format, c.export.format in FORMATS, ", ".join(FORMATS)))
    limits.append(("export.precision", c.export.precision, c.export.precision in PRECISIONS, ", ".join(PRECISIONS)))
    limits.append(("export.batch", batch, batch is None or 1 <= batch <= 65536, "a whole number from 1, or null: any"))
    for precision, tolerance in c.export.tolerance.items():
        key = f"export.tolerance.{precision}"
        limits.append((key, tolerance, precision in PRECISIONS, f"one of {', '.join(PRECISIONS)} as its last part"))
        limits.append((key, tolerance, 0 < tolerance <= 1, "a difference of probabilities, over 0 and up to 1"))
    limits.append(("calibration.patches", c.calibration.patches, 1 <= c.calibration.patches <= 65536, "1 to 65536"))
    e = c.evaluate
    limits.append(("evaluate.split", e.split, e.split in (None, *SPLITS), f"{', '.join(SPLITS)}, or null: all"))
    codes = ", ".join(REFERENCE_CODES)
    limits.append(("evaluate.reference_codes", e.reference_codes, e.reference_codes in REFERENCE_CODES, codes))
    b = c.benchmark
    limits.append(("benchmark.repeat", b.repeat, b.repeat >= 1, "a whole number from 1"))
    limits.append(("benchmark.warmup", b.warmup, b.warmup >= 0, "a whole number from 0"))
    limits.append(("benchmark.unstable", b.unstable, 0 < b.unstable < 1, "a share over 0 and under 1"))
    limits += _limits_of_execution(c)
    t = c.tracking
    limits.append(("tracking.uri", t.uri, t.name == "none" or bool(t.uri), "a database file or a server"))
    # Records hold the configuration, and people share records.
    secret = "one without a password, which every record would show: set MLFLOW_TRACKING_USERNAME and _PASSWORD"
    limits.append(("tracking.uri", "(hidden)", not re.search(r"//[^/@]*:[^/@]*@", t.uri or ""), secret))
    limits.append(("tracking.experiment", t.experiment, bool(t.experiment.strip()), "a name"))
    limits.append(("tracking.max_file_mb", t.max_file_mb, t.max_file_mb >= 0, "a number from 0"))
    limits.append(("tracking.max_run_mb", t.max_run_mb, t.max_run_mb >= 0, "a number from 0"))
    limits.append(("tracking.patience", t.patience, 0 < t.patience <= LONGEST, "seconds, more than 0, up to 1e9"))
    limits.append(("serve.host", c.serve.host, bool(c.serve.host), "a name or address of this machine"))
    limits.append(("serve.port", c.serve.port, 0 <= c.serve.port <= 65535, "0 (any that is free) to 65535"))
    memory, flips = c.recommend.max_memory_gb, c.recommend.max_flips_per_million
    limits.append(("recommend.max_memory_gb", memory, memory is None or memory > 0, "GB over 0, or null: any"))
    right = flips is None or 0 <= flips <= 1_000_000
    limits.append(("recommend.max_flips_per_million", flips, right, "0 to 1000000 pixels, or null: any"))
    return limits


def _limits_of_execution(c: Config) -> list[tuple[str, Any, bool, str]]:
    e, s = c.execution, c.execution.slurm
    alone = e.name == "local" and e.workers == 1
    return [
        ("execution", e.name, e.name in EXECUTIONS, ", ".join(EXECUTIONS)),
        ("execution.workers", e.workers, 1 <= e.workers <= MOST, f"a whole number from 1 to {MOST}"),
        ("execution.threads", e.threads, 1 <= e.threads <= MOST, f"a whole number from 1 to {MOST}"),
        ("execution.memory", e.memory, e.memory == "auto" or _is_memory(e.memory), "auto, or such as 4GB"),
        ("execution.patience", e.patience, 0 < e.patience <= LONGEST, "seconds, more than 0, up to 1e9"),
        (
            "execution.address",
            e.address,
            e.address is None or bool(re.fullmatch(r"(tcp|tls)://[^/@\s]+:\d+", e.address)),
            "the address of a scheduler, such as tcp://host:8786",
        ),
        (
            "execution.slurm.jobs",
            s.jobs,
            s.jobs is None or 1 <= s.jobs <= MOST,
            f"a whole number from 1 to {MOST}, or null: no SLURM",
        ),
        ("execution.slurm.cores", s.cores, 1 <= s.cores <= MOST, f"a whole number from 1 to {MOST}"),
        ("execution.slurm.memory", s.memory, _is_memory(s.memory), "an amount such as 16GB"),
        ("execution.address", e.address, not (e.address and s.jobs), "null where execution.slurm.jobs starts workers"),
        (
            "task",
            c.task.name,
            alone or c.task.name == "classify",
            "classify alone with workers: leave out execution, and this task runs in one process",
        ),
    ]


def _is_memory(amount: str) -> bool:
    return bool(re.fullmatch(r"(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,9})? ?([kKMGTP]i?)?B", amount))


def _explain(error: OmegaConfBaseException, composed: DictConfig) -> str:
    key = error.full_key or "the configuration"
    what = str(error.msg or error).splitlines()[0]
    try:
        got = OmegaConf.select(composed, str(key), throw_on_missing=False) if error.full_key else None
    except OmegaConfBaseException:  # it is an interpolation that comes to nothing
        return f"{key}: {what}"
    for name, words in TYPES.items():
        if re.search(rf"converted to {name}|not a valid {name}|not a {name}|to {name}\[", what):
            return f"{key}={got}: takes {words}"
    if "not in" in what and error.full_key:
        parent = str(key).rpartition(".")[0]
        siblings = OmegaConf.select(OmegaConf.structured(Config), parent) if parent else OmegaConf.structured(Config)
        return f"unknown key {key}: {parent or 'the configuration'} takes {', '.join(map(str, siblings or ()))}"
    return f"{key}={got}: {what}"


NOT_IN_HASH = (
    *("tile_folder", "input_dir", "output_folder", "tracking", "resume", "dry_run", "benchmark", "recommend", "serve"),
    "execution",
)


def config_hash(config: Config) -> str:
    """What was asked, apart from where things lie, and how they are tracked and measured."""
    asked = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(asked, dict)
    return digest({str(key): value for key, value in asked.items() if key not in NOT_IN_HASH})


def digest(value: Any) -> str:
    """sha256 of anything that JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
