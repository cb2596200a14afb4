"""The engine builder on a stand-in for TensorRT: the options it passes, the files it leaves, what it says."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import exporters.tensorrt
from benexp.core.errors import BenexpError
from benexp.models.embedded_hash import BIN_HASH, HASH_KEY, NO_HASH, embed_hash, is_sound
from benexp.models.published import sha256
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from exporters.cached import cached, make, typed_source
from exporters.ranges import RangePatches
from exporters.recipe import Recipe
from exporters.tensorrt import export_tensorrt, timing_cache, trtexec_command
from tests.backends.fake_tensorrt import GPU, Fake, fake_tensorrt  # noqa: F401
from tests.models.builders import S2

RANGES = RangePatches("key", "4 patches", lambda: varied_patches(S2, 4, seed=3))
Export = Callable[..., dict[str, object]]


@pytest.fixture
def export(fake_tensorrt: Fake, small_model: ModelSpec, small_onnx: Path, tmp_path: Path) -> Export:  # noqa: F811
    """Exports `small_model` for five patches to small.engine, unless told otherwise."""

    def export_one(source: Path = small_onnx, **more: object) -> dict[str, object]:
        recipe = Recipe(**{"batch": 5, **more})  # type: ignore[arg-type]
        return export_tensorrt(small_model, source, tmp_path / "small.engine", recipe)

    return export_one


def test_an_engine_and_what_it_was_built_for(export: Export, tmp_path: Path, small_model: ModelSpec) -> None:
    report = export(workspace_gb=1.5)
    assert report["passed"]
    assert (report["precision"], report["batch"], report["tensorrt"], report["gpu"]) == ("fp32", 5, "10.9.0.34", GPU)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "small.engine",
        "small.json",
        "small.parity.json",
    ]
    assert (tmp_path / "small.engine").read_bytes().startswith(b"PLAN[5, 10, 120, 120]")
    about = json.loads((tmp_path / "small.json").read_text())
    assert about["shape"] == [5, 10, 120, 120]
    assert (about["tensorrt"], about["gpu"], about["workspace_gb"]) == ("10.9.0.34", GPU, 1.5)
    assert json.loads(about["benexp.bands"]) == list(small_model.bands)
    assert json.loads(about["benexp.precision"]) == "fp32"


def test_a_damaged_engine_shows(export: Export, tmp_path: Path) -> None:
    export()
    path = tmp_path / "small.engine"
    assert is_sound(path)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert not is_sound(path)


def test_options_are_passed(export: Export, fake_tensorrt: Fake) -> None:  # noqa: F811
    export(workspace_gb=1.5)
    flags = fake_tensorrt.NetworkDefinitionCreationFlag
    assert fake_tensorrt.arguments("create_network") == (1 << flags.STRONGLY_TYPED,)
    assert fake_tensorrt.arguments("set_memory_pool_limit") == ("WORKSPACE", 3 << 29)
    assert fake_tensorrt.arguments("clear_flag") == ("TF32",)
    assert fake_tensorrt.arguments("build_serialized_network") == ((5, 10, 120, 120),)


def plan(source: Path, precision: str, timings: Path) -> None:
    exporters.tensorrt._plan(source, [2, 10, 120, 120], precision, 4, timings)


def test_reduced_precision_is_in_the_file_and_needs_no_flag(
    fake_tensorrt: Fake,  # noqa: F811
    small_onnx: Path,
    tmp_path: Path,
) -> None:
    for precision in ("fp16", "bf16"):
        plan(small_onnx, precision, tmp_path / "a.timing")
    assert "clear_flag" not in fake_tensorrt.names()
    # What is not quantised of an int8 file may be fp32.
    plan(small_onnx, "int8", tmp_path / "a.timing")
    assert fake_tensorrt.arguments("clear_flag") == ("TF32",)


def test_timings_are_kept_for_the_next_engine(fake_tensorrt: Fake, small_onnx: Path, tmp_path: Path) -> None:  # noqa: F811
    kept = tmp_path / "folder" / "a.timing"
    plan(small_onnx, "fp32", kept)
    assert kept.read_bytes() == b"measured;"
    plan(small_onnx, "fp32", kept)
    assert kept.read_bytes() == b"measured;measured;"
    # Another driver, or damaged.
    fake_tensorrt.timing_matches = False
    plan(small_onnx, "fp32", kept)
    assert kept.read_bytes() == b"measured;"
    assert list(kept.parent.iterdir()) == [kept]
    assert timing_cache("10.9", GPU).name == "Some_GPU_compute_capability_9.0_10.9.timing"


def test_a_file_that_tensorrt_cannot_read_is_named(export: Export, tmp_path: Path) -> None:
    (tmp_path / "odd.onnx").write_bytes(b"odd")
    with pytest.raises(BenexpError, match=r"TensorRT 10\.9\.0\.34 cannot read .*odd\.onnx: no such operator$"):
        export(tmp_path / "odd.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["odd.onnx"]


def test_a_build_that_fails_says_why(export: Export, fake_tensorrt: Fake, tmp_path: Path) -> None:  # noqa: F811
    fake_tensorrt.most = 4
    with pytest.raises(
        BenexpError, match=r"cannot build .*\.onnx at fp32 for patches .*: Error Code 2: OutOfMemory \(no"
    ):
        export()
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_answers_otherwise_is_not_kept(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporters.tensorrt, "reference_answer", lambda _: lambda batch: np.full((len(batch), 19), 0.5))
    with pytest.raises(BenexpError, match=r"the TensorRT engine of small at fp32 differs .* use backend=torch"):
        export()
    assert [path.name for path in tmp_path.iterdir()] == ["small.worst.npz"]


def test_the_cache_knows_batch_gpu_library_and_workspace(
    fake_tensorrt: Fake,  # noqa: F811
    small_model: ModelSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def build(_spec: ModelSpec, _source: Path, path: Path, recipe: Recipe) -> None:
        made.append((path, recipe.batch, recipe.workspace_gb))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.with_suffix(".json").write_text(json.dumps({HASH_KEY: NO_HASH, BIN_HASH: sha256(path)}))
        embed_hash(path)

    monkeypatch.setattr(exporters.tensorrt, "export_tensorrt", build)

    def engine(batch: int = 97, workspace_gb: float = 4) -> Path:
        return cached(small_model, "tensorrt", Recipe(batch=batch, workspace_gb=workspace_gb))

    paths = [engine(), engine(batch=98), engine(workspace_gb=2)]
    fake_tensorrt.__version__ = "10.10.0"
    paths.append(engine())
    monkeypatch.setattr(exporters.tensorrt, "gpu_name", lambda: "Other GPU")
    paths.append(engine())
    assert engine(workspace_gb=4.0) == paths[-1]
    assert made == [
        (path, *asked) for path, asked in zip(paths, [(97, 4), (98, 4), (97, 2), (97, 4), (97, 4)], strict=True)
    ]
    assert len(set(paths)) == 5


@pytest.mark.parametrize(
    ("precision", "decide"),
    [
        ("fp32", {"realistic", "random", "constant", "zero", "saturated"}),
        ("fp16", {"realistic", "random", "constant", "zero"}),
    ],
)
def test_saturated_patches_decide_at_fp32_alone(precision: str, decide: set[str], export: Export) -> None:
    report = export(precision=precision, tolerance=0.5)
    kinds: Any = report["kinds"]
    assert {kind for kind, found in kinds.items() if found["decides"]} == decide


def test_an_engine_needs_a_batch_size(fake_tensorrt: Fake, small_model: ModelSpec, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(BenexpError, match=r"for one batch size: set export\.batch"):
        make(small_model, "tensorrt", tmp_path / "a.engine", Recipe())


def test_a_missing_library_stops_an_export(
    small_model: ModelSpec, small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(BenexpError, match=r"TensorRT cannot be loaded .*pip install 'benexp\[tensorrt\]'"):
        export_tensorrt(small_model, small_onnx, tmp_path / "a.engine", Recipe(batch=1))
    with pytest.raises(BenexpError, match=r"export to TensorRT at fp8: takes fp32, fp16, bf16, int8"):
        export_tensorrt(small_model, small_onnx, tmp_path / "a.engine", Recipe("fp8", batch=1))


def test_bf16_comes_from_the_checkpoint(small_model: ModelSpec, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "benexp"):
        path = typed_source(small_model, Recipe("bf16"))
    assert "it is checked once an engine is built of it" in caplog.text
    assert is_sound(path)
    model = onnx.load(path)
    assert [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)] == [
        onnx.TensorProto.FLOAT
    ] * 2
    types = {value.name: value.data_type for value in model.graph.initializer}
    weights = [types[name] for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:]]
    assert weights
    assert set(weights) == {onnx.TensorProto.BFLOAT16}


def test_int8_needs_patches(small_model: ModelSpec) -> None:
    with pytest.raises(BenexpError, match="small at int8 needs patches to measure ranges on"):
        typed_source(small_model, Recipe("int8"))
    first = typed_source(small_model, Recipe("int8", tolerance=1, ranges=RANGES))
    assert first.parent.name == "tensorrt-onnx"


def test_trtexec_by_hand(small_model: ModelSpec, small_onnx: Path) -> None:
    command = trtexec_command(small_model, small_onnx, Path("out/small.engine"), "fp32", 8, workspace_gb=1.5)
    shape = "patches:8x10x120x120"
    assert command == [
        "trtexec",
        f"--onnx={small_onnx}",
        "--saveEngine=out/small.engine",
        "--stronglyTyped",
        "--noTF32",
        f"--minShapes={shape}",
        f"--optShapes={shape}",
        f"--maxShapes={shape}",
        "--memPoolSize=workspace:1536",
        "--timingCacheFile=out/small.timing",
        "--skipInference",
    ]
    assert "--noTF32" not in trtexec_command(small_model, small_onnx, Path("a.engine"), "fp16", 8)
    assert "--noTF32" in trtexec_command(small_model, small_onnx, Path("a.engine"), "int8", 8)
