"""collection.json: STAC's collection over the items of all tiles in a folder, or over those of a sweep's jobs."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benexp.config.hashing import digest
from benexp.records.names import RUN
from benexp.report.stac import (
    CLASSIFICATION,
    COG,
    COLLECTION,
    FIRST,
    GEOJSON,
    JSON,
    LAST,
    PROJECTION,
    STAC,
    TERMS,
    collection_id,
    item_name,
    write_json,
)

log = logging.getLogger("benexp")


def write_collection(folder: Path, config_hash: str) -> Path:
    """Write collection.json over the items of the tiles that lie below, of this run, whose hash it is, and of others.

    There is one at least. Those of another configuration keep the name of its collection.
    """
    items = _items(folder)
    models = sorted({item["properties"]["benexp:model"] for item in items.values()})
    lineages = {item["properties"]["processing:lineage"] for item in items.values()}
    sources = ". ".join(sorted({item["properties"]["benexp:attribution"] for item in items.values()}))
    how = lineages.pop() if len(lineages) == 1 else "They were made in several ways: each item says in which."
    collection = {
        **_head(collection_id(config_hash), f"Land cover by {', '.join(models)}"),
        "stac_extensions": [PROJECTION, CLASSIFICATION],
        "description": f"Land cover of {len(items)} Sentinel-2 tile{'s' if len(items) > 1 else ''}. {how} {sources}.",
        "extent": _extent_of(items.values()),
        "summaries": _summaries(
            {key: [value] for key in ("platform", "proj:code") if (value := item["properties"].get(key))}
            for item in items.values()
        ),
        "item_assets": {
            name: {key: value for key, value in asset.items() if key in ("title", "type", "roles") or "classi" in key}
            for item in reversed(items.values())
            for name, asset in item["assets"].items()
            if asset["type"] == COG
        },
        "links": [
            _root(),
            *_terms(items.values()),
            *(
                {"rel": "item", "href": f"./{quote(place)}", "type": GEOJSON, "title": item["id"]}
                for place, item in items.items()
            ),
        ],
    }
    write_json(folder / COLLECTION, collection)
    return folder / COLLECTION


def write_sweep_collection(folder: Path, jobs: Mapping[str, Sequence[Path]]) -> Path | None:
    """Write collection.json over those of a sweep's jobs below, by the names of their configurations; None without any.

    Of each configuration one: its jobs are repeats, with the same maps.
    """
    path = folder / COLLECTION
    children: dict[str, tuple[Path, Any]] = {}
    for name, places in jobs.items():
        if found := next((place / COLLECTION for place in places if (place / COLLECTION).is_file()), None):
            children[name] = found.relative_to(folder), json.loads(found.read_text(encoding="utf-8"))
    if not children:
        path.unlink(missing_ok=True)
        return None
    below = [child for _, child in children.values()]
    summaries = _summaries(child["summaries"] for child in below)
    collection = {
        **_head(
            f"benexp-sweep-{digest([child['id'] for child in below])[:12]}", "Land cover by several configurations"
        ),
        "stac_extensions": [PROJECTION] if "proj:code" in summaries else [],
        "description": f"Land cover of the same Sentinel-2 tiles by {len(below)} configurations: a collection of each.",
        "extent": _extent(
            [child["extent"]["spatial"]["bbox"][0] for child in below],
            [child["extent"]["temporal"]["interval"][0] for child in below],
        ),
        "summaries": summaries,
        "links": [
            _root(),
            *_terms(below),
            *(
                {"rel": "child", "href": f"./{quote(place.as_posix())}", "type": JSON, "title": name}
                for name, (place, _) in children.items()
            ),
        ],
    }
    write_json(path, collection)
    return path


def _items(folder: Path) -> dict[str, Any]:
    """The items of finished tiles and regions, by their places below the folder."""
    found = {}
    for record in sorted([*folder.glob(f"*/{RUN}"), *folder.glob(f"*/*/{RUN}")]):
        place = record.parent.relative_to(folder)
        path = folder / place / item_name(place.parts[0])
        if path.is_file():
            try:
                found[f"{place.as_posix()}/{path.name}"] = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                log.warning("%s: left out of %s, as it cannot be read: %s", path, COLLECTION, error)
    return found


def _head(name: str, title: str) -> dict[str, Any]:
    return {"type": "Collection", "stac_version": STAC, "id": name, "title": title, "license": "other"}


def _root() -> dict[str, str]:
    return {"rel": "root", "href": f"./{COLLECTION}", "type": JSON}


def _terms(linked: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The link to the terms of Sentinel data, where one of these items or collections has it."""
    return [TERMS] if any(link["rel"] == TERMS["rel"] for one in linked for link in one["links"]) else []


def _extent_of(items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    times = [item["properties"] for item in items]
    return _extent(
        [item["bbox"] for item in items],
        [(t["datetime"] or t["start_datetime"], t["datetime"] or t["end_datetime"]) for t in times],
    )


def _extent(boxes: Sequence[Sequence[float]], times: Sequence[Sequence[str | None]]) -> dict[str, Any]:
    """The box around all of these, and the time from the first to the last; without an end where one has none."""
    box = [*(min(b[i] for b in boxes) for i in (0, 1)), *(max(b[i] for b in boxes) for i in (2, 3))]
    if any(b[0] > b[2] for b in boxes):  # over the antimeridian
        box[0], box[2] = -180.0, 180.0
    start, end = min(first or FIRST for first, _ in times), max(last or LAST for _, last in times)
    return {"spatial": {"bbox": [box]}, "temporal": {"interval": [[start, None if end == LAST else end]]}}


def _summaries(every: Iterable[Mapping[str, Sequence[Any]]]) -> dict[str, list[Any]]:
    """All values of each key, sorted."""
    found: dict[str, set[Any]] = {"gsd": {10}}
    for one in every:
        for key, values in one.items():
            found.setdefault(key, set()).update(values)
    return {key: sorted(values) for key, values in found.items()}
