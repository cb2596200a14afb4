"""The limits of keys: a value beyond is refused with the key, the value and the limit; one at the limit is taken."""

import pytest
from hydra import compose, initialize_config_dir

from benexp.config.groups import conf_folder
from benexp.config.schema import Config
from benexp.config.validation import check
from benexp.core.errors import BenexpError


def checked(*overrides: str) -> Config:
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return check(compose("config", [*overrides]))


BEYOND = [
    ("chunking.patch_size=0", "chunking.patch_size=0: takes a whole number from 1"),
    ("chunking.chunk_size=119", "chunking.chunk_size=119: takes a whole number from chunking.patch_size=120, or every"),
    ("chunking.stride=121", "chunking.stride=121: takes 1 to chunking.patch_size=120, or pixels"),
    ("chunking.min_valid=1.1", "chunking.min_valid=1.1: takes a share from 0 to 1"),
    ("chunking.min_valid=nan", "chunking.min_valid=nan: takes a share from 0 to 1"),
    ("offset=-65536", "offset=-65536: takes auto, none or a whole number between -65536 and 65536"),
    ("mask.scl=[0,-1]", "mask.scl=[0, -1]: takes classes from 0 to 11"),
    ("region.pixels=[0,0,0,9]", "region.pixels=[0, 0, 0, 9]: takes [row,col,height,width], the first two from 0"),
    ("region.bbox=[1,5,1,6]", "region.bbox=[1.0, 5.0, 1.0, 6.0]: takes [west,south,east,north] with west < east"),
    ("region={pixels: [0,0,9,9], bbox: [0,0,1,1]}", "region=pixels and bbox: takes one of the two"),
    ("export.format=tflite", "export.format=tflite: takes onnx, openvino, tensorrt"),
    ("export.precision=fp8", "export.precision=fp8: takes fp32, fp16, bf16, int8"),
    ("export.batch=65537", "export.batch=65537: takes a whole number from 1, or null: any"),
    ("+export.tolerance.fp8=0.1", "export.tolerance.fp8=0.1: takes one of fp32, fp16, bf16, int8 as its last part"),
    ("quantization.patches=65537", "quantization.patches=65537: takes a whole number from 1 to 65536"),
    ("evaluate.split=all", "evaluate.split=all: takes train, validation, test, or null: all"),
    ("evaluate.reference_codes=names", "evaluate.reference_codes=names: takes auto, ids, clc"),
    ("benchmark.warmup=-1", "benchmark.warmup=-1: takes a whole number from 0"),
    ("benchmark.unstable=1", "benchmark.unstable=1.0: takes a share over 0 and under 1"),
    ("serve.host=''", "serve.host=: takes a name or address of this machine"),
    ("serve.port=65536", "serve.port=65536: takes 0 (any that is free) to 65535"),
    ("recommend.max_memory_gb=0", "recommend.max_memory_gb=0.0: takes GB over 0, or null: any"),
    ("recommend.max_flips_per_million=-1", "recommend.max_flips_per_million=-1.0: takes 0 to 1000000 pixels, or null"),
    ("execution.workers=0", "execution.workers=0: takes a whole number from 1 to 65536"),
    ("execution=dask; execution.threads=65537", "execution.threads=65537: takes a whole number from 1 to 65536"),
    (
        "execution=dask; execution.address=host",
        "execution.address=host: takes the address of a scheduler, such as tcp:",
    ),
    (
        "execution=dask; execution.slurm.jobs=0",
        "execution.slurm.jobs=0: takes a whole number from 1 to 65536, or null:",
    ),
    ("execution=dask; execution.slurm.cores=0", "execution.slurm.cores=0: takes a whole number from 1 to 65536"),
    (
        "execution=dask; execution.address=tcp://h:1; execution.slurm.jobs=1",
        "execution.address=tcp://h:1: takes null where execution.slurm.jobs starts workers",
    ),
    ("execution.workers=2; task=doctor", "task=doctor: takes classify alone with workers"),
    ("tracking=mlflow; tracking.uri=null", "tracking.uri=None: takes a database file or a server"),
    ("tracking=mlflow; tracking.uri=http://me:secret@host", "tracking.uri=(hidden): takes one without a password"),
    ("tracking=mlflow; tracking.experiment=' '", "tracking.experiment= : takes a name"),
    ("tracking=mlflow; tracking.max_run_mb=-1", "tracking.max_run_mb=-1.0: takes a number from 0"),
    ("tracking=mlflow; tracking.patience=0", "tracking.patience=0.0: takes seconds, more than 0, up to 1e9"),
]


AT_THE_LIMIT = (
    *("chunking.chunk_size=120", "chunking.stride=120", "chunking.min_valid=1", "offset=-65535", "mask.scl=[0,11]"),
    *("region.pixels=[0,0,1,1]", "export.batch=65536", "export.tolerance.int8=1", "quantization.patches=65536"),
    *("evaluate.split=null", "benchmark.repeat=1", "benchmark.warmup=0", "benchmark.unstable=0.99", "serve.port=65535"),
    *("recommend.max_memory_gb=0.1", "recommend.max_flips_per_million=1000000", "execution=dask"),
    *("execution.workers=65536", "execution.memory=1kB", "execution.patience=1e9", "execution.slurm.jobs=65536"),
    *("tracking=mlflow", "tracking.max_run_mb=0", "tracking.patience=1e9", "++backend.threads=65536"),
)


@pytest.mark.parametrize(("overrides", "message"), BEYOND)
def test_a_value_beyond_its_limit_is_refused(overrides: str, message: str) -> None:
    with pytest.raises(BenexpError) as refused:
        checked(*overrides.split("; "))
    assert str(refused.value).startswith(message)


def test_values_at_their_limits_are_taken() -> None:
    config = checked(*AT_THE_LIMIT)
    assert config.chunking.stride == 120
    assert config.execution.slurm.jobs == 65536


def test_a_scalar_stands_for_a_list_of_one() -> None:
    config = checked("mask.scl=9", "layers.names=class", "backends=torch", "task=compare", "model.bands=B02")
    assert (config.mask.scl, config.layers.names, config.backends) == ([9], ["class"], ["torch"])
    assert config.model.bands == ["B02"]
    assert checked("mask.scl=${demo.seed}").mask.scl == [7]
    with pytest.raises(BenexpError, match=r"mask.scl=\[cloud\]: takes|mask.scl.*whole number"):
        checked("mask.scl=cloud")
    with pytest.raises(BenexpError, match=r"region.pixels=\[5\]: takes \[row,col,height,width\]"):
        checked("region.pixels=5")
