import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import exporters.openvino
from benexp.backends.openvino import OpenVinoBackend
from benexp.core.errors import BenexpError
from benexp.models.embedded_hash import embed_hash, embedded_hash
from benexp.models.published import sha256
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from benexp.models.synthetic import varied_patches
from exporters.cached import cached, make
from exporters.openvino import export_openvino
from exporters.ranges import RangePatches
from exporters.recipe import Recipe
from tests.models.builders import S2, model_config
from tests.without import TORCH, run_without

pytest.importorskip("openvino")

RANGES = RangePatches("eight", "8 patches made up", lambda: varied_patches(S2, 8, seed=4))


@pytest.fixture(scope="module")
def fp32(small_model: ModelSpec) -> Path:
    return cached(small_model, "openvino")


@pytest.fixture(scope="module")
def int8(small_model: ModelSpec) -> Path:
    pytest.importorskip("nncf")
    # Random weights bear eight bits badly: that is no matter here.
    return cached(small_model, "openvino", Recipe("int8", tolerance=1.0, ranges=RANGES))


@pytest.fixture
def pair(fp32: Path, tmp_path: Path) -> Path:
    """A copy of the fp32 model under a name of its own."""
    for suffix in (".xml", ".bin"):
        shutil.copy(fp32.with_suffix(suffix), tmp_path / f"mine{suffix}")
    return tmp_path / "mine.xml"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def answer(spec: ModelSpec, path: Path, precision: str = "fp32") -> npt.NDArray[np.float32]:
    chunk = varied_patches(S2, 1, seed=5)[0].astype(np.uint16)
    with OpenVinoBackend(spec, path, precision=precision, threads=2, batch_size=1) as backend:
        return backend.classify(chunk, np.ones((120, 120), bool), np.zeros((1, 2), int))


def test_an_export_is_two_files_that_say_what_they_are(
    small_model: ModelSpec, small_onnx: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = replace(small_model, name='my "model" <ä>', revision="abc")
    report = export_openvino(spec, small_onnx, tmp_path / "m.xml", Recipe())
    assert capfd.readouterr() == ("", "")
    assert names_in(tmp_path) == ["m.bin", "m.parity.json", "m.xml"]
    assert report["passed"]
    assert report["precision"] == "fp32"
    assert report["max_abs_diff"] < 1e-4
    # 4 bytes a weight: OpenVINO saves 2 unless told otherwise.
    assert (tmp_path / "m.bin").stat().st_size > 0.9 * (small_model.path / "model.safetensors").stat().st_size

    read = resolve(model_config(weights="onnx", path=tmp_path / "m.xml"))
    same = {key: getattr(spec, key) for key in ("weights", "source", "weights_hash", "path")}
    assert replace(read, **same) == spec
    assert read.weights == "onnx"
    assert read.source == "m.xml, exported from random weights, seed 0"
    # Once: what the .onnx file said of itself does not travel along.
    assert (tmp_path / "m.xml").read_text().count("<benexp.revision") == 0


def test_the_hash_is_of_both_files(pair: Path) -> None:
    assert resolve(model_config(weights="onnx", path=pair)).weights_hash == embedded_hash(pair)
    assert sha256(pair.with_suffix(".bin")) in pair.read_text()
    pair.write_text(pair.read_text() + "\n")
    with pytest.raises(BenexpError, match=r"mine\.xml is damaged or was changed since benexp exported it"):
        resolve(model_config(weights="onnx", path=pair))


def test_an_export_that_differs_is_not_kept(small_model: ModelSpec, small_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match=r"OpenVINO export of small at fp32 differs .* was not kept"):
        export_openvino(small_model, small_onnx, tmp_path / "m.xml", Recipe(tolerance=1e-12))
    assert names_in(tmp_path) == ["m.worst.npz"]


def test_nothing_maps_the_weights_when_they_move(fp32: Path, tmp_path: Path) -> None:
    """Files that are mapped cannot be moved everywhere, and are a bus error once they are written to."""
    for suffix in (".xml", ".bin"):
        shutil.copy(fp32.with_suffix(suffix), tmp_path / f"made{suffix}")
    asked = exporters.openvino.openvino_answer(tmp_path / "made.xml")
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(tmp_path) not in maps.read_text()
    (tmp_path / "made.bin").write_bytes(b"")
    assert asked(varied_patches(S2, 1)).shape == (1, 19)


def test_int8_from_a_few_patches(small_model: ModelSpec, fp32: Path, int8: Path) -> None:
    spec = resolve(model_config(weights="onnx", path=int8))
    assert spec.precision == "int8"
    assert 'type="FakeQuantize"' in int8.read_text()
    assert int8.with_suffix(".bin").stat().st_size < 0.5 * fp32.with_suffix(".bin").stat().st_size
    exact, rough = answer(small_model, fp32), answer(spec, int8, "int8")
    assert not np.array_equal(exact, rough)
    assert np.array_equal(answer(small_model, int8, "int8"), rough)


def test_int8_without_patches_or_nncf(
    small_model: ModelSpec, small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BenexpError, match=r"int8 needs patches to measure ranges on"):
        export_openvino(small_model, small_onnx, tmp_path / "m.xml", Recipe("int8"))
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(BenexpError, match=r"nncf: pip install 'benexp\[openvino\]'"):
        export_openvino(small_model, small_onnx, tmp_path / "m.xml", Recipe("int8", ranges=RANGES))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BenexpError, match=r"openvino: pip install 'benexp\[openvino\]'"):
        export_openvino(small_model, small_onnx, tmp_path / "m.xml", Recipe())
    assert names_in(tmp_path) == []


def test_precisions_that_files_do_not_hold(small_model: ModelSpec, small_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match=r"at bf16: takes fp32, int8; backend=openvino runs fp32 files at bf16"):
        export_openvino(small_model, small_onnx, tmp_path / "m.xml", Recipe("bf16"))


def test_an_onnx_file_serves_openvino(small_onnx: Path, small_model: ModelSpec, fp32: Path) -> None:
    spec = resolve(model_config(weights="onnx", path=small_onnx))
    path = cached(spec, "openvino")
    assert path.suffix == ".xml"
    assert np.array_equal(answer(spec, path), answer(small_model, fp32))


def test_an_int8_onnx_file_is_taken_as_it_is(small_onnx: Path, small_model: ModelSpec, tmp_path: Path) -> None:
    """ONNX Runtime's QDQ becomes OpenVINO's own quantisation: nothing is quantised again."""
    onnx = pytest.importorskip("onnx")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        patches = iter(varied_patches(S2, 4, seed=4))

        def get_next(self) -> dict[str, object] | None:
            patch = next(self.patches, None)
            return None if patch is None else {"patches": patch[None]}

    quantize_static(small_onnx, tmp_path / "q.onnx", Reader(), quant_format=QuantFormat.QDQ)
    model = onnx.load(tmp_path / "q.onnx")
    next(entry for entry in model.metadata_props if entry.key == "benexp.precision").value = '"int8"'
    onnx.save(model, tmp_path / "q.onnx")
    embed_hash(tmp_path / "q.onnx")
    spec = resolve(model_config(weights="onnx", path=tmp_path / "q.onnx"))
    path = cached(spec, "openvino", Recipe("int8", tolerance=1.0))
    assert resolve(model_config(weights="onnx", path=path)).precision == "int8"
    assert 'type="FakeQuantize"' in path.read_text()
    assert answer(spec, path, "int8").shape == (1, 19)


def test_an_openvino_file_is_its_own_artefact(pair: Path, tmp_path: Path) -> None:
    spec = resolve(model_config(weights="onnx", path=pair))
    assert cached(spec, "openvino") == pair
    with pytest.raises(BenexpError, match=r"mine\.xml holds fp32: set backend\.precision=fp32, or make int8 of"):
        cached(spec, "openvino", Recipe("int8", ranges=RANGES))
    with pytest.raises(BenexpError, match=r"mine\.xml is in OpenVINO's format: choose backend=openvino"):
        cached(spec, "onnx")
    with pytest.raises(BenexpError, match=r"mine\.xml is in OpenVINO's format: other files are made of"):
        make(spec, "onnx", tmp_path / "m.onnx")


SCRIPT = """
import sys
import numpy as np
from benexp.models.resolve import resolve
from benexp.runs.backend_choice import choose_backend

spec = resolve({"name": "mine", "weights": "onnx", "path": sys.argv[1]})
assert "openvino" not in sys.modules
chunk = np.load(sys.argv[2])
backend = {"_target_": "benexp.backends.openvino.OpenVinoBackend", "batch_size": 1, "threads": 2}
with choose_backend(backend).make(spec) as opened:
    answer = opened.classify(chunk, np.ones(chunk.shape[1:], bool), np.zeros((1, 2), int))
np.save(sys.argv[3], answer)
print(spec.name, spec.weights, spec.trained, *spec.bands, sep="|")
"""


def test_an_exported_pair_works_where_nothing_else_is_installed(
    small_model: ModelSpec, fp32: Path, pair: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "chunk.npy", varied_patches(S2, 1, seed=5)[0].astype(np.uint16))
    said = run_without(
        {*TORCH, "onnx", "onnxruntime", "nncf"}, SCRIPT, pair, tmp_path / "chunk.npy", tmp_path / "answer.npy"
    )
    assert said.split("|") == ["small", "onnx", "False", *S2]
    assert np.array_equal(np.load(tmp_path / "answer.npy"), answer(small_model, fp32))
