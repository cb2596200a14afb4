"""Made-up records of the types that benexp writes."""

from typing import Any

from benexp.core.classes import NAMES
from benexp.records.model import ModelRecord
from benexp.records.run import FileRecord, GridOrigin, PatchCounts, RunRecord

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


def model_record(**changes: Any) -> ModelRecord:
    fields: dict[str, Any] = {
        **{
            "name": "resnet50-s2",
            "architecture": "resnet50",
            "bands": BANDS,
            "means": (1.0,) * 10,
            "stds": (1.0,) * 10,
        },
        **{"patch_size": 120, "classes": NAMES, "weights": "hub", "source": "owner/repo", "revision": "c0ffee"},
        "weights_hash": "cd" * 32,
    }
    return ModelRecord(**fields | changes)


def run_record(**changes: Any) -> RunRecord:
    chunking = {"patch_size": 120, "stride": 60, "blend": "sin2", "min_valid": 0.5, "chunk_size": 2048}
    fields: dict[str, Any] = {
        **{"tile": "T33UUP", "product": "/data/T33UUP.SAFE", "shape": (150, 200), "crs": "EPSG:32633"},
        "transform": (10.0, 0.0, 600000.0, 0.0, -10.0, 5300040.0),
        **{"command": "benexp 'tile_folder=/data/x y'", "config": {"chunking": chunking}},
        **{"config_hash": "0123456789abcdef", "model": model_record(), "offsets": dict.fromkeys(BANDS, 0)},
        **{"patches": PatchCounts(33124, 33000), "valid_pixels": 30000, "warnings": [], "peak_memory_bytes": 10**9},
        **{"environment": {}, "files": {"T33UUP_class.tif": FileRecord(1, "ef" * 32)}},
        **{"backend_name": "onnxruntime-cpu", "grid_key": "key", "grid_reused": False, "resumed_chunks": 0},
        "map_hash": "ab" * 32,
        "backend": {
            "backend": "OnnxRuntimeBackend",
            "engine": "onnxruntime 1.31.1",
            "precision": "fp32",
            "device": "cpu",
        },
        **{"calibration": None, "seconds": 304.25, "stage_seconds": {"read": 43.2, "infer": 290.1}},
    }
    return RunRecord(**fields | changes)


def grid_origin(key: str = "key", **changes: Any) -> GridOrigin:
    fields: dict[str, Any] = {"grid_key": key, "backend": {}, "warnings": [], "calibration": None}
    return GridOrigin(**fields | changes)
