"""The STAC item beside an artefact: what catalogues say about a model, in the Machine Learning Model extension.

Plain JSON, since pystac writes an older version of the extension, whose fields differ.
"""

import json
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benexp.core.classes import named
from benexp.core.files import replacing
from benexp.models.published import sha256
from benexp.models.spec import ModelSpec
from benexp.version import __version__

EXTENSIONS = [
    "https://stac-extensions.github.io/mlm/v1.5.2/schema.json",
    "https://stac-extensions.github.io/classification/v1.1.0/schema.json",
    "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
]
COMMON_NAMES = {
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "rededge071",
    "B06": "rededge075",
    "B07": "rededge078",
    "B08": "nir",
    "B8A": "nir08",
    "B11": "swir16",
    "B12": "swir22",
}
"""The eo extension's names of the bands of Sentinel-2."""

FRAMEWORKS = {".onnx": ("ONNX", "onnx"), ".xml": ("OpenVINO", "openvino"), ".engine": ("TensorRT", "tensorrt")}
"""By an artefact's suffix: the framework's name, and the distribution whose version it has."""

BIGEARTHNET = "BigEarthNet v2.0"
_WEST, _SOUTH, _EAST, _NORTH = -10.6, 36.9, 31.6, 70.1
# A rough box around the ten countries whose patches BigEarthNet has.


def write_item(spec: ModelSpec, artefact: Path, precision: str, batch: int | None, report: dict[str, Any]) -> Path:
    """Write `<stem>.stac.json` beside the artefact of `spec`; `report` is its parity report, `batch` None for any."""
    path = artefact.with_suffix(".stac.json")
    with replacing(path) as unfinished:
        content = json.dumps(_item(spec, artefact, precision, batch, report), indent=2, ensure_ascii=False)
        unfinished.write_text(content + "\n", encoding="utf-8")
    return path


def _item(spec: ModelSpec, artefact: Path, precision: str, batch: int | None, report: dict[str, Any]) -> dict[str, Any]:
    framework, package = FRAMEWORKS[artefact.suffix]
    properties = {
        "title": f"{spec.name} for {framework} at {precision}",
        "description": f"Multi-label land cover of Sentinel-2 patches; weights: {spec.source}.",
        **_licence(spec),
        **_period(spec),
        **model_fields(spec, batch),
        "mlm:framework": framework,
        **_framework_version(package),
        **({"mlm:accelerator": "cuda", "mlm:accelerator_constrained": True} if artefact.suffix == ".engine" else {}),
        **({"mlm:batch_size_suggestion": batch} if batch else {}),
        "benexp:precision": precision,
        "benexp:parity": {key: value for key, value in report.items() if not isinstance(value, dict)},
        "benexp:version": __version__,
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": EXTENSIONS,
        "id": artefact.stem,
        **_place(spec),
        "properties": properties,
        "links": model_links(spec),
        "assets": _assets(artefact, framework, package, spec.bands),
    }


def model_fields(spec: ModelSpec, batch: int | None = None) -> dict[str, Any]:
    """The properties of an item that hold for a model, whatever runs it; `batch` None for any."""
    return {
        "bands": _bands(spec),
        "mlm:name": _name(spec.name),
        "mlm:architecture": spec.architecture,
        "mlm:tasks": ["scene-classification"],
        **_training(spec),
        "mlm:input": [_input(spec, batch)],
        "mlm:output": [_output(spec, batch)],
        **origin_fields(spec),
    }


def origin_fields(spec: ModelSpec) -> dict[str, Any]:
    """The source of a model's weights, and their hash."""
    return {
        "benexp:source": spec.source,
        "benexp:revision": spec.revision,
        "benexp:weights_sha256": spec.weights_hash,
    }


def classes_of(spec: ModelSpec) -> list[dict[str, Any]]:
    """The classes in the words of the classification extension."""
    return [
        {
            "value": index,
            "name": re.sub(r"[^a-z0-9]+", "-", name.lower()),
            "title": name,
            "description": name,
            "color_hint": cover.colour.removeprefix("#"),
        }
        for index, (name, cover) in enumerate(zip(spec.classes, named(spec.classes), strict=True))
    ]


def _bands(spec: ModelSpec) -> list[dict[str, Any]]:
    return [
        {
            "name": band,
            **({"eo:common_name": COMMON_NAMES[band]} if band in COMMON_NAMES else {}),
            "statistics": {"mean": mean, "stddev": std},
        }
        for band, mean, std in zip(spec.bands, spec.means, spec.stds, strict=True)
    ]


def _input(spec: ModelSpec, batch: int | None) -> dict[str, Any]:
    return {
        "name": "patches",
        "description": "Surface reflectance x 10000, without the offset of products since 2022, on a 10 m grid: bands "
        "of 20 m are repeated to 10 m. The model normalises by itself, with the bands' statistics.",
        "bands": list(spec.bands),
        "input": {
            "shape": [batch or -1, len(spec.bands), spec.patch_size, spec.patch_size],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        # Not the statistics: who applied them here would normalise a second time.
        "value_scaling": None,
        "resize_type": None,
    }


def _output(spec: ModelSpec, batch: int | None) -> dict[str, Any]:
    return {
        "name": "probabilities",
        "description": "The probability of each class, independent of the others: several may be present in a patch.",
        "tasks": ["scene-classification"],
        "result": {
            "shape": [batch or -1, len(spec.classes)],
            "dim_order": ["batch", "class"],
            "data_type": "float32",
        },
        "classification:classes": classes_of(spec),
    }


def _assets(artefact: Path, framework: str, package: str, bands: Sequence[str]) -> dict[str, Any]:
    def asset(path: Path, title: str, media_type: str, roles: list[str], **more: Any) -> dict[str, Any]:
        checksum = f"1220{sha256(path)}"  # as a multihash: its first two bytes say sha256 and 32 bytes
        about = {"file:size": path.stat().st_size, "file:checksum": checksum}
        return {"href": f"./{path.name}", "title": title, "type": media_type, "roles": roles, **about, **more}

    binary = f"application/octet-stream; framework={package}"
    model_type = "application/xml" if artefact.suffix == ".xml" else binary
    # The bands' names again: STAC takes bands of the item, which the extension wants, only beside bands of an asset.
    model = {"mlm:artifact_type": package, "bands": [{"name": band} for band in bands]}
    assets = {"model": asset(artefact, f"The model for {framework}", model_type, ["mlm:model"], **model)}
    weights = artefact.with_suffix(".bin")
    if artefact.suffix == ".xml":
        assets["weights"] = asset(weights, "Its weights", binary, ["mlm:weights"])
    else:
        assets["model"]["roles"].append("mlm:weights")
    parity = artefact.with_suffix(".parity.json")
    if parity.exists():
        assets["parity"] = asset(parity, "How it differs from what it was made of", "application/json", ["metadata"])
    return assets


def _place(spec: ModelSpec) -> dict[str, Any]:
    """The place of the training data, which the extension's authors advise to give; unlocated where it is not known."""
    if not _is_published(spec):
        return {"geometry": None}
    corners = [[_WEST, _SOUTH], [_EAST, _SOUTH], [_EAST, _NORTH], [_WEST, _NORTH], [_WEST, _SOUTH]]
    return {"geometry": {"type": "Polygon", "coordinates": [corners]}, "bbox": [_WEST, _SOUTH, _EAST, _NORTH]}


def _period(spec: ModelSpec) -> dict[str, Any]:
    """When the training data was taken; all times where that is not known, since STAC demands some."""
    if _is_published(spec):
        start, end = "2017-06-01T00:00:00Z", "2018-05-31T23:59:59Z"
    else:
        start, end = "1900-01-01T00:00:00Z", "9999-12-31T23:59:59Z"
    return {"datetime": None, "start_datetime": start, "end_datetime": end}


def _training(spec: ModelSpec) -> dict[str, Any]:
    if not spec.trained:
        return {"mlm:pretrained": False, "mlm:pretrained_source": None}
    return {"mlm:pretrained": True} | ({"mlm:pretrained_source": BIGEARTHNET} if _is_published(spec) else {})


def _licence(spec: ModelSpec) -> dict[str, Any]:
    """MIT for what is published or made by benexp; a user's own weights are the user's."""
    ours = not spec.trained or spec.source.endswith("the demo model of benexp")
    return {"license": "MIT"} if ours or _is_published(spec) else {}


def model_links(spec: ModelSpec) -> list[dict[str, Any]]:
    """The Hub's page of the model, where it comes from there."""
    if spec.weights != "hub":
        return []
    page = f"https://huggingface.co/{spec.source}/tree/{spec.revision}"
    return [{"rel": "derived_from", "href": page, "type": "text/html", "title": "The published checkpoint"}]


def _is_published(spec: ModelSpec) -> bool:
    """True where the weights are known to be those of the Hub: the revision stays with them in exported files."""
    return spec.revision is not None


def _name(name: str) -> str:
    """The name as far as the extension allows."""
    plain = re.sub(r"[^\w.\- ]+", "-", name, flags=re.ASCII).strip("-_. ")
    return plain if re.fullmatch(r"[A-Za-z].+", plain) and len(plain) > 2 else f"model-{plain or 0}"


def _framework_version(package: str) -> dict[str, str]:
    """The first three numbers of the version: the extension takes no others."""
    try:
        found = re.match(r"\d+\.\d+\.\d+", metadata.version(package))
    except metadata.PackageNotFoundError:
        found = None
    return {"mlm:framework_version": found[0]} if found else {}
