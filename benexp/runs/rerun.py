"""Rerunning into a folder that has results: other layers are added, but a map of another question is never replaced."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benexp.core.errors import BenexpError
from benexp.mapping import layers
from benexp.products.region import TileRegion
from benexp.records.names import RUN
from benexp.records.run import RunRecord
from benexp.records.storage import read_record
from benexp.runs.grid_key import is_other
from benexp.runs.plan import RunPlan
from benexp.runs.publishing import journal_of


def plan_rerun(plan: RunPlan, region: TileRegion, folder: Path) -> RunPlan:
    """The plan for a folder that may have results: the layers there are rendered again, with those asked for.

    Raises BenexpError where the results answer another question, unless the plan says to overwrite them.
    """
    path = folder / RUN
    if not path.is_file():
        path = journal_of(path)  # of a run that was killed while it published its results
    if plan.overwrite or not path.is_file():
        return plan
    try:
        earlier = read_record(path, RunRecord)
    except BenexpError as error:
        raise BenexpError(f"{error}; or replace these results with overwrite=true") from error
    differing = [
        f"{key}={_text(there)} there, {_text(now)} now" for key, there, now in _differences(plan, region, earlier)
    ]
    if differing:
        raise BenexpError(
            f"{folder} has a map that answers another question ({'; '.join(differing)}): choose another output_folder= "
            f"or output_name=, or replace it with overwrite=true"
        )
    return _with_layers_of(plan, earlier, folder)


def _differences(plan: RunPlan, region: TileRegion, earlier: RunRecord) -> Iterator[tuple[str, Any, Any]]:
    """The keys that make another map of it, with their values there and now."""
    config, now, window = earlier.config, plan.asked, None if region.is_whole else tuple(region.window)
    before, settings = config["backend"], plan.backend.settings
    # The settings of another class have other names.
    shared = {"precision"} if earlier.backend_name != plan.backend.name else {*before, *settings} - HOW
    tile = region.tile
    other = is_other(tile, earlier.product, earlier.product_hash)
    pairs = [
        *([("product", earlier.product, str(tile.product.path))] if other else []),
        ("region", earlier.region, window),
        ("model", (earlier.model.name, earlier.model.weights_hash), (plan.spec.name, plan.spec.weights_hash)),
        ("backend", earlier.backend_name, plan.backend.name),
        *((f"backend.{key}", before.get(key), settings.get(key)) for key in sorted({*before, *settings} & shared)),
        ("offset", earlier.offsets, tile.offsets),
        ("saturated", config.get("saturated", now["saturated"]), now["saturated"]),
        ("mask.scl", sorted(config["mask"]["scl"]), sorted(now["mask"]["scl"])),
        *(
            (f"chunking.{key}", config["chunking"].get(key), now["chunking"].get(key))
            for key in sorted({*config["chunking"], *now["chunking"]} - {"chunk_size"})
        ),
    ]
    if settings.get("precision") == "int8":
        pairs.append(("quantization.patches", config["quantization"]["patches"], now["quantization"]["patches"]))
    if "multilabel" in {*config["layers"]["names"]} & {*now["layers"]["names"]}:
        pairs.append(("layers.thresholds", config["layers"]["thresholds"], now["layers"]["thresholds"]))
    return ((key, there, here) for key, there, here in pairs if there != here)


HOW = {"_target_", "batch_size", "threads", "device", "allow_fallback", "mode", "compile", "workspace_gb"}
"""Settings of backends that decide where and how the same answers are computed."""


def _text(value: Any) -> str:
    """A value as in a message: of a model, its name and the start of its hash; of offsets by band, the numbers."""
    if isinstance(value, dict):
        return ",".join(map(str, sorted(set(value.values()))))
    if isinstance(value, tuple) and isinstance(value[-1], str):
        return f"{value[0]} ({value[1][:12]})"
    return str(list(value) if isinstance(value, tuple) else value)


def _with_layers_of(plan: RunPlan, earlier: RunRecord, folder: Path) -> RunPlan:
    """The plan with the layers that `folder` has from an earlier run, which would be out of date beside new ones."""

    def is_there(name: str) -> bool:
        return (folder / f"{earlier.tile}_{name}.tif").is_file()

    asked, before = plan.asked["layers"], earlier.config["layers"]
    names = [*asked["names"], *(name for name in before["names"] if name not in asked["names"] and is_there(name))]
    extra = {name: settings for name, settings in before["extra"].items() if is_there(name)} | asked["extra"]
    if len(names) == len(asked["names"]) and extra.keys() == asked["extra"].keys():
        return plan
    merged = {**asked, "names": names, "extra": extra}
    if "multilabel" not in asked["names"]:
        merged["thresholds"] = before["thresholds"]
    if "probs" not in asked["names"]:
        merged["probs_dtype"] = before["probs_dtype"]
    try:
        made = layers.build(merged, plan.spec.classes)
    except BenexpError as error:
        raise BenexpError(f"{error}; {folder} has this layer, which overwrite=true drops") from error
    return dataclasses.replace(plan, layers=tuple(made), asked={**plan.asked, "layers": merged})
