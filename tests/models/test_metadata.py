import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

import onnx
import pytest

from benexp.core.errors import BenexpError
from benexp.models.embedded_hash import BIN_HASH, NO_HASH, embed_hash, embedded_hash
from benexp.models.metadata import to_metadata
from benexp.models.published import sha256
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from tests.models.builders import S2, model_config


def test_a_file_brings_its_own_specification(small_model: ModelSpec, small_onnx: Path) -> None:
    spec = resolve(model_config(name="onnx", weights="onnx", path=small_onnx, architecture=None, bands=[]))
    assert spec.name == "small"
    assert spec.bands == S2
    assert (spec.means, spec.stds) == (small_model.means, small_model.stds)
    assert spec.classes == small_model.classes
    assert spec.path == small_onnx
    assert spec.weights_hash == embedded_hash(small_onnx)
    assert spec.weights == "onnx"
    assert spec.batch is None
    assert not spec.trained


def test_patches_of_another_size_are_refused(small_onnx: Path) -> None:
    with pytest.raises(BenexpError, match=r"takes patches of 120 px: set chunking\.patch_size=120"):
        resolve(model_config(weights="onnx", path=small_onnx), patch_size=96)


def test_a_file_from_elsewhere_is_refused(small_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(BenexpError, match=r"foreign\.onnx is damaged or was changed .* \(or benexp did not\)"):
        resolve(model_config(weights="onnx", path=tmp_path / "foreign.onnx"))


def test_no_onnx_at_all(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(BenexpError, match=r"text\.onnx is damaged or was changed") as raised:
        resolve(model_config(weights="onnx", path=tmp_path / "text.onnx"))
    assert "\n" not in str(raised.value)


def test_a_file_that_only_tensorrt_takes_is_refused(small_model: ModelSpec, tmp_path: Path) -> None:
    def value(name: str) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.BFLOAT16, [1, 1, 3, 3])

    convolution = onnx.helper.make_node("Conv", ["patches", "weights"], ["probabilities"])
    graph = onnx.helper.make_graph(
        [convolution], "bf16", [value("patches"), value("weights")], [value("probabilities")]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)
    onnx.helper.set_model_props(model, to_metadata(small_model, "bf16"))
    onnx.save(model, path := tmp_path / "bf16.onnx")
    embed_hash(path)
    with pytest.raises(BenexpError, match=r"bf16\.onnx holds what ONNX Runtime cannot run, .* takes files of fp32"):
        resolve(model_config(weights="onnx", path=path))


def test_a_damaged_file_is_refused(small_onnx: Path, tmp_path: Path) -> None:
    content = small_onnx.read_bytes()
    for place in (5000, len(content) - 10, content.rindex(b"benexp.patch_size") + 20):
        (tmp_path / "mine.onnx").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(BenexpError, match=r"mine\.onnx is damaged or was changed since .* export it again"):
            resolve(model_config(weights="onnx", path=tmp_path / "mine.onnx"))


def test_weights_alone_are_half_of_a_model(pair: Path) -> None:
    with pytest.raises(BenexpError, match=r"m\.bin is half of a model: name the m\.xml beside it"):
        resolve(model_config(weights="onnx", path=pair.with_suffix(".bin")))


@pytest.fixture
def pair(small_model: ModelSpec, tmp_path: Path) -> Path:
    """An .xml file as OpenVINO writes it, as far as it matters here, and its .bin."""
    (tmp_path / "m.bin").write_bytes(b"weights")
    said = {**to_metadata(small_model, "int8"), BIN_HASH: sha256(tmp_path / "m.bin")}
    entries = "".join(f"<{key.removeprefix('benexp.')} value={quoteattr(value)} />" for key, value in said.items())
    (tmp_path / "m.xml").write_text(f"<net><layers /><rt_info><benexp>{entries}</benexp></rt_info></net>")
    embed_hash(tmp_path / "m.xml")
    return tmp_path / "m.xml"


def test_an_openvino_file_brings_its_own_specification(
    small_model: ModelSpec, pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    spec = resolve(model_config(weights="onnx", path=pair))
    assert (spec.name, spec.bands, spec.means, spec.stds) == ("small", S2, small_model.means, small_model.stds)
    assert (spec.weights, spec.trained, spec.precision, spec.path) == ("onnx", False, "int8", pair)
    assert spec.weights_hash == embedded_hash(pair)
    with pytest.raises(BenexpError, match=r"takes patches of 120 px"):
        resolve(model_config(weights="onnx", path=pair), patch_size=96)


def test_openvino_files_that_do_not_belong_together(pair: Path) -> None:
    weights = pair.with_suffix(".bin")
    weights.write_bytes(b"Weights")
    with pytest.raises(BenexpError, match=r"m\.bin is damaged or belongs to another model than m\.xml: copy both"):
        resolve(model_config(weights="onnx", path=pair))
    weights.unlink()
    with pytest.raises(BenexpError, match=r"m\.bin is missing: an OpenVINO model is two files"):
        resolve(model_config(weights="onnx", path=pair))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello SEAL", r"m\.xml cannot be read as an OpenVINO model: ParseError"),
        ("<net><layers>SEAL", r"m\.xml cannot be read as an OpenVINO model: ParseError"),
        (
            '<!DOCTYPE a [<!ENTITY b "c">]><net>&b;SEAL</net>',
            r"cannot be read as an OpenVINO model: EntitiesForbidden",
        ),
        ("<net />", r"m\.xml is damaged or was changed since benexp exported it"),
        ("<net>SEAL</net>", r"m\.xml does not say its name: model\.path takes a file that benexp exported"),
    ],
)
def test_no_openvino_file_of_benexp(text: str, message: str, pair: Path) -> None:
    pair.write_text(
        text.replace("SEAL", f'<seal value="{NO_HASH}" /><bin_hash value="{sha256(pair.with_suffix(".bin"))}" />')
    )
    if "SEAL" in text:
        embed_hash(pair)
    with pytest.raises(BenexpError, match=message) as raised:
        resolve(model_config(weights="onnx", path=pair))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("bands", "5", "says bands that cannot be"),
        ("classes", "[[]]", "says classes that cannot be"),
        ("means", '["1"]', "says means that cannot be"),
        ("stds", "[1.0]", "has means and stds of other bands"),
        ("patch_size", '"120"', "says patch_size that cannot be"),
        ("name", "{", "says of itself what cannot be read"),
        ("name", "[" * 100_000, "says of itself what cannot be read"),
        ("batch", "[]", "says batch that cannot be"),
    ],
)
def test_what_a_file_says_of_itself_is_not_believed(
    field: str, value: str, message: str, small_model: ModelSpec, pair: Path
) -> None:
    """Its hash is right: anybody can write one."""
    said = {**to_metadata(small_model, "int8"), BIN_HASH: sha256(pair.with_suffix(".bin")), f"benexp.{field}": value}
    entries = "".join(f"<{key.removeprefix('benexp.')} value={quoteattr(text)} />" for key, text in said.items())
    pair.write_text(f"<net><rt_info><benexp>{entries}</benexp></rt_info></net>")
    embed_hash(pair)
    with pytest.raises(BenexpError, match=message) as raised:
        resolve(model_config(weights="onnx", path=pair))
    assert "\n" not in str(raised.value)
