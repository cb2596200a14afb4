"""The messages about mistakes in the configuration."""

from pathlib import Path

import pytest

from benexp import BenexpError, classify
from benexp.cli.app import main
from benexp.cli.wording import error_message

MISTAKES = [
    ("chunking.chunk_sze=512", "unknown key chunking.chunk_sze (did you mean chunk_size?): chunking takes chunk_size"),
    ("tile_foldr=x", "unknown key tile_foldr (did you mean tile_folder?)"),
    ("chunking.stride=many", "chunking.stride=many: takes a whole number"),
    ("chunking.stride=0", "chunking.stride=0: takes 1 to"),
    ("chunking.stride=121", "chunking.stride=121: takes 1 to"),
    ("chunking.chunk_size=100", "chunking.chunk_size=100: takes"),
    ("chunking.blend=round", "chunking.blend=round: takes sin2, gaussian, flat"),
    ("chunking.min_valid=2", "chunking.min_valid=2.0: takes a share"),
    ("resume=perhaps", "resume=perhaps: takes true or false"),
    ("offset=some", "offset=some: takes auto, none or a whole number"),
    ("offset=65536", "offset=65536: takes auto, none or a whole number between -65536 and 65536"),
    ("offset=true", "offset=True: takes auto, none or a whole number"),
    ("integrity=maybe", "integrity=maybe: takes auto, checksum, structure, none"),
    ("mask.scl=[12]", "mask.scl=[12]: takes classes from 0 to 11"),
    ("mask.scl=12", "mask.scl=[12]: takes classes from 0 to 11"),
    ("layers.thresholds=2", "layers.thresholds: 2 is not a number of 0 to 1"),
    ("layers.probs_dtype=int8", "layers.probs_dtype=int8: it takes float32 or uint16"),
    ("region.pixels=[0,0,10]", "region.pixels=[0, 0, 10]: takes [row,col,height,width]"),
    ("region.bbox=[5,5,4,6]", "region.bbox="),
    ("region.crs=EPSG:4326", "region.crs=EPSG:4326: takes a CRS only beside region.bbox"),
    (
        "backend=tensorflow",
        "backend=tensorflow: takes null, onnxruntime-cpu, onnxruntime-cuda, onnxruntime-tensorrt, openvino",
    ),
    ("backend.batch_size=0", "backend.batch_size=0: takes a whole number from 1"),
    ("backend.precision=fp8", "backend.precision=fp8: NullBackend takes fp32"),
    ("backend.device=cuda", "backend.device=cuda: NullBackend takes cpu"),
    ("backend.device=cpu:3", "backend.device=cpu:3: NullBackend takes cpu"),
    ("backend.batch_size=many", "backend.batch_size=many: takes a whole number from 1 to 65536, auto, or null"),
    ("backend.threads=auto", "backend.threads=auto: takes a whole number from 1 to 65536, or null: all cores"),
    ("backend.allow_fallback=maybe", "backend.allow_fallback=maybe: takes true or false"),
    ("export.tolerance=0.1", "export.tolerance=0.1: takes several keys, such as {fp32: 0.0001}: name one of them"),
    ("export.tolerance.int8=2", "export.tolerance.int8=2.0: takes a difference of probabilities"),
    ("export.batch=-1", "export.batch=-1: takes a whole number from 1, or null: any"),
    ("backends=torch", "backends=[torch]: takes effect with task=compare alone"),
    ("backend.threads=1000000", "backend.threads=1000000: takes a whole number from 1 to 65536"),
    ("output_folder=", "output_folder=: takes a folder"),
    ("chunking=null", "a group is null: name one of its choices"),
    ("benchmark.repeat=0", "benchmark.repeat=0: takes a whole number from 1"),
    ("region=[1,2]", "region=[1,2]"),
    ("backend._target_=nowhere.Backend", "backend._target_=nowhere.Backend: cannot be imported"),
    ("backend._target_=pathlib.Path", "backend._target_=pathlib.Path: takes a subclass"),
    ("backend.speed=9", "unknown key backend.speed: NullBackend takes batch_size, precision, device, threads"),
    ("model=resnet9000", "model=resnet9000: takes"),
    ("nogroup=x", "unknown key nogroup"),
    ("layers.names=[clas]", "layers.names"),
    ("task.name=fly", "task.name=fly: takes benchmark"),
    ("chunking.stride=", "chunking.stride"),
    ("layers=[1,2]", "Hydra can make no configuration of these keys and values (TypeError: "),
    ("backend=[[1]]", "Hydra can make no configuration of these keys and values (TypeError: "),
    ("model.bands=[[B02]]", "model.bands=[['B02']]: takes a list such as [a,b], of texts"),
    ("region.pixels=[[1]]", "region.pixels=[[1]]: takes a list such as [a,b], of whole numbers"),
    ("region.pixels=${model.bands}", "takes a list such as [a,b], of whole numbers"),
    ("layers.names=${seed}", "layers.names: unknown layer '0'"),
    ("layers.names=${demo}", "layers.names=Demo(size=None, seed=7): takes a list such as [a,b]"),
    ("recommend=${seed}", "recommend=0: takes several keys"),
    ("export.tolerance=${mask}", "export.tolerance=Mask(scl=[]): takes several keys"),
    ("export.tolerance=${backend}", "takes numbers"),
    ("export.tolerance=${output_folder}", "takes several keys, such as {fp32: 0.0001}: name one of them"),
    ("layers.names=${nothing}", "layers.names: Interpolation key 'nothing' not found"),
    ("execution.workers=1000000000", "execution.workers=1000000000: takes a whole number from 1 to 65536"),
    ("++execution.memory=-5GB", "execution.memory=-5GB: takes auto, or such as 4GB"),
    ("++execution.memory=much", "execution.memory=much: takes auto, or such as 4GB"),
    ("++execution.patience=inf", "execution.patience=inf: takes seconds, more than 0, up to 1e9"),
    ("++execution.slurm.memory=0GB", "execution.slurm.memory=0GB: takes an amount such as 16GB"),
    ("chunking.stride", "chunking.stride: is not key=value"),
    ("mask.scl=[", "mask.scl=[: is not key=value"),
    ("calibration.patches=4", "calibration.patches is now quantization.patches"),
    ("++calibration.patches=4", "calibration is now quantization"),
    ("task=report", "task=report is now task=upload"),
    ("task.name=report", "task.name=report is now task=upload"),
    ("+quantization.patchs=3", "unknown key quantization.patchs: quantization takes patches"),
    ("quantization.patches=0", "quantization.patches=0: takes a whole number from 1 to 65536"),
    ("execution.name=cloud", "execution.name=cloud: takes local, dask"),
]


@pytest.mark.parametrize(("override", "message"), MISTAKES)
def test_a_mistake_is_one_clear_line_before_any_work(
    override: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out"
    group = override.partition("=")[0]
    arguments = ["model=demo", "backend=null", f"tile_folder={tmp_path}", f"output_folder={output}"]
    code = main([argument for argument in arguments if not argument.startswith(f"{group}=")] + [override])
    assert code == 1
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert message in said[0]
    assert "\n" not in said[0]
    assert not output.exists()


def test_hydras_own_mistakes_reach_python_as_benexp_errors(tmp_path: Path) -> None:
    for override in ("layers=[1,2]", "task=${oc.env:NOTHING_OF_THE_KIND}"):
        with pytest.raises(BenexpError):
            classify(tmp_path, tmp_path / "out", "model=demo", override)


def test_unexpected_errors_are_one_line_too() -> None:
    assert error_message(ZeroDivisionError("division by\nzero")) == (
        "unexpected ZeroDivisionError: division by zero (HYDRA_FULL_ERROR=1 shows where)"
    )
