"""Made-up records of the types that benexp writes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from benexp.core.classes import NAMES
from benexp.measure.environment import environment
from benexp.records.comparison import BackendComparison, ComparisonRecord
from benexp.records.evaluation import (
    ComparedPixels,
    EvaluatedPatches,
    MapClassScores,
    MapEvaluation,
    PatchClassScores,
    PatchEvaluation,
)
from benexp.records.figures import Interval, Totals, UsageSummary
from benexp.records.job import JobReport, Measurements, Startup, totals_of
from benexp.records.model import ModelRecord
from benexp.records.run import (
    EffectiveResolution,
    FileRecord,
    GridOrigin,
    PatchCounts,
    PixelCounts,
    RunRecord,
    WorkRecord,
)
from benexp.records.sweep import Configuration, Recommended, SweepReport
from benexp.records.tile import DoneTile, FailedTile, TileRecord

KNOWN: dict[str, Any] = {
    **{"model": "demo", "backend_name": "torch", "repeat": 1, "config_hash": "c"},
    "asked": {"precision": "fp32", "batch_size": 32},
    "chunking": {"chunk_size": 2048, "patch_size": 120, "stride": 60},
}


def usage(**more: Any) -> UsageSummary:
    known: dict[str, Any] = {
        **{"start": {}, "end": {}, "peak": {"rss_bytes": 10**7}, "seconds": 2.0, "cpu_seconds": 1.0, "samples": 2},
        **{"other_cores": None, "stolen_cores": None, "run_peak_rss_bytes": 10**7, "peak_rss_bytes": 10**8},
        **{"cpu_joules": None, "device_joules": None, "sampler_cpu_seconds": 0.1, "error": None},
        "over_time": {"seconds": [0.0, 2.0], "rss_bytes": [10**6, 10**7]},
    }
    return UsageSummary(**known | more)


def done_tile(tile: str = "a", seconds: float = 2.0, **more: Any) -> DoneTile:
    known: dict[str, Any] = {
        **{"tile": tile, "product": f"in/{tile}", "seconds": seconds, "stage_seconds": {"infer": seconds / 2}},
        "folder": tile,
        **{"patches": 40, "km2": 2.0, "map_hash": "5", "output_bytes": 3010, "files": 2, "batches": 10},
        **{"latency_seconds": {"p50": seconds / 1000, "p90": None, "p99": None}, "latency_histogram": {-60: 10}},
        **{"backend": {"precision": "fp32", "batch_size": 32}, "range_patches": None, "usage": usage(), "verdicts": []},
    }
    return DoneTile(**KNOWN | known | more)


def failed_tile(tile: str, error: str, **more: Any) -> FailedTile:
    return FailedTile(**KNOWN | {"tile": tile, "product": f"in/{tile}", "error": error} | more)


def job_report(tiles: Sequence[TileRecord], config: dict[str, Any], **more: Any) -> JobReport:
    known: dict[str, Any] = {
        **{"status": "done", "command": "benexp", "config": config, "config_hash": "c", "repeat": 1},
        **{"environment": environment(), "startups": [Startup(open_seconds={"load": 0.5}, backend={})]},
        **{"totals": totals_of(list(tiles)), "tiles": list(tiles)},
    }
    return JobReport(**known | more)


def ceiling(done: int, seconds: float, km2: float = 2.0) -> Measurements:
    """The totals of tiles without a model, and nothing of each."""
    rates = {"patches_per_second": 1.0, "km2_per_second": km2 / seconds}
    totals = Totals(done=done, failed=0, seconds=seconds, peak_rss_bytes=10**8, **rates)
    return Measurements(startups=[], totals=totals, tiles=[])


def configuration(name: str, **more: Any) -> Configuration:
    speed = Interval(1234.56, 1100.0, 1300.04, 3)
    known: dict[str, Any] = {
        **{"configuration": name, "config_hash": name, "overrides": [], "jobs": [], "status": "done"},
        **{"repeats": [1, 2], "failed": [], "errors": [], "backend": "torch", "precision": "fp32", "device": "cpu"},
        **{"provider": None, "batch_size": 32, "threads": 2, "chunk_size": 2048, "seconds": {1: 2.0, 2: 2.0}},
        **{"median": Interval(2.0, 1.9, 2.1, 2), "spread": 0.01, "stage_seconds": {}, "patches": 100, "km2": 2.0},
        **{"patches_per_second": speed, "km2_per_second": None, "ceiling_seconds": None, "compared": True},
        **{"peak_rss_bytes": 1_234_000_000, "peak_device_memory_bytes": None, "memory_bytes": 1_234_000_000},
        **{"map_hashes": {}, "flips_per_million": 0.0, "beyond_ties_per_million": 0.0, "prob_diff_max": None},
        **{"flips_unknown": None, "against_reference": None, "pareto_memory": False, "pareto_flips": False},
        **{"verdicts": [], "problems": [], "left_out": None},
    }
    return Configuration(**known | more)


def sweep_report(*configurations: Configuration, recommended: str | None = None, **more: Any) -> SweepReport:
    advice: dict[str, Any] = {
        **{"sentence": f"fastest: {recommended}", "configuration": recommended, "config_hash": recommended},
        **{"overrides": [], "nearest": None, "not_told_apart": []},
        **{"max_memory_gb": None, "max_flips_per_million": None},
    }
    known: dict[str, Any] = {
        **{"status": "done", "environment": environment(), "other_environments": [], "jobs": []},
        **{"configurations": list(configurations), "reference": None, "recommendation": Recommended(**advice)},
        **{"problems": [], "excluded": None, "tiles": []},
    }
    return SweepReport(**known | more)


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
        **{"region": None, "tile_shape": (150, 200), "folder": "T33UUP"},
        **{"sensed": "2023-06-15T10:30:07.000Z", "simulated": False},
        "product_hash": "0a" * 32,
        "attribution": "Contains modified Copernicus Sentinel data 2023",
        **{"resolution": EffectiveResolution(1200, 600), "pixels": PixelCounts.of(30000, 29000, 28000)},
        "transform": (10.0, 0.0, 600000.0, 0.0, -10.0, 5300040.0),
        **{"command": "benexp 'tile_folder=/data/x y'", "config": {"chunking": chunking}},
        **{"config_hash": "0123456789abcdef", "model": model_record(), "offsets": dict.fromkeys(BANDS, 0)},
        "offset_source": "its metadata",
        **{"patches": PatchCounts(33124, 33000), "valid_pixels": 29000, "warnings": [], "peak_memory_bytes": 10**9},
        **{"environment": environment(), "files": {"T33UUP_class.tif": FileRecord(1, "ef" * 32)}},
        **{"backend_name": "onnxruntime-cpu", "grid_key": "key", "grid_reused": False, "resumed_chunks": 0},
        "grid": FileRecord(7, "12" * 32),
        "map_hash": "ab" * 32,
        "backend": {
            "backend": "OnnxRuntimeBackend",
            "engine": "onnxruntime 1.31.1",
            "precision": "fp32",
            "device": "cpu",
        },
        **{"range_patches": None, "seconds": 304.25, "stage_seconds": {"read": 43.2, "infer": 290.1}},
    }
    return RunRecord(**fields | changes)


def comparison_record(*labels: str, **changes: Any) -> ComparisonRecord:
    """One tile classified by these backends: the n-th after the reference flips n pixels per million."""
    run = run_record()
    fields: dict[str, Any] = {field.name: getattr(run, field.name) for field in dataclasses.fields(WorkRecord)}
    fields |= {"compared_pixels": 28000, "reference": labels[0], "notes": [], "seconds": 9.0}
    fields["backends"] = [_compared(label, number) for number, label in enumerate(labels)]
    return ComparisonRecord(**fields | changes)


def _compared(label: str, number: int) -> BackendComparison:
    return BackendComparison(
        label=label,
        precision=label.partition(":")[2] or "fp32",
        describe={},
        settings={},
        patches_per_second=10.0 * (number + 1),
        speed_ratio=number + 1.0,
        open_seconds=0.5,
        seconds=2.0,
        infer_seconds=1.0,
        map_hash=f"{number}",
        flips_per_million=float(number),
        beyond_ties_per_million=0.0,
        tie_tolerance=1e-4,
        prob_diff_max=number / 10,
        prob_diff_mean=number / 100,
        prob_diff_p99=number / 20,
        area_change=[],
        flips=[],
    )


def _evaluated(**more: Any) -> dict[str, Any]:
    return {
        **{"name": "T33UUP", "backend": {"precision": "fp32", "provider": "none"}, "backend_name": "torch"},
        **{"macro": {"f1": 0.5, "iou": None}, "command": "benexp task=evaluate", "config": {}, "config_hash": "c"},
        **{"environment": environment(), "peak_memory_bytes": 10**9, "notes": [], "seconds": 3.0},
        "files": {"T33UUP_accuracy.csv": FileRecord(1, "ef" * 32)},
        **more,
    }


def map_evaluation(**changes: Any) -> MapEvaluation:
    scores = {"precision": 0.25, "recall": 1.0, "f1": 0.4, "iou": None}
    urban = MapClassScores(class_id=0, class_name=NAMES[0], reference_pixels=1, map_pixels=4, **scores)
    fields = _evaluated(
        **{"model": {"name": "demo", "revision": None, "trained": True}, "map": "/data/T33UUP_class.tif"},
        **{"map_file": FileRecord(1, "ef" * 32), "map_hash": "ab" * 32, "reference": "/data/truth.tif"},
        **{"reference_file": FileRecord(1, "01" * 32), "reference_codes": "ids", "overall_accuracy": 0.75},
        **{"pixels": ComparedPixels(100, {"without a class": 20}), "kappa": 0.5},
        **{"classes": [urban], "confusion": [[75, 0], [25, 0]]},
    )
    return MapEvaluation(**fields | changes)


def patch_evaluation(**changes: Any) -> PatchEvaluation:
    scores = {"average_precision": 0.875, "precision": 0.25, "recall": 1.0, "f1": 0.4}
    urban = PatchClassScores(class_id=0, class_name=NAMES[0], labelled=1, predicted=4, **scores)
    fields = _evaluated(
        **{"model": model_record(), "patches": EvaluatedPatches(100, {"without a label": 20}), "path": "/data/lmdb"},
        **{"metadata": "/data/metadata.parquet", "split": "test", "thresholds": [0.5] * 19, "micro": {"f1": 0.625}},
        **{"classes": [urban], "patches_per_second": 40.0, "stage_seconds": {"infer": 2.5}},
    )
    return PatchEvaluation(**fields | changes)


def grid_origin(key: str = "key", **changes: Any) -> GridOrigin:
    fields: dict[str, Any] = {"grid_key": key, "question": "q", "product": "/data/x", "product_hash": "0a" * 32}
    fields |= {"backend": {}, "range_patches": None}
    return GridOrigin(**fields | changes)
