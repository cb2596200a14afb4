"""Names of a sweep's configurations."""

from typing import Any

from benexp.benchmarking.labels import labels


def config(**backend: Any) -> dict[str, Any]:
    return {
        "model": {"name": "demo", "path": None},
        "chunking": {"chunk_size": backend.pop("chunk", 2048), "blend": backend.pop("blend", "sin2")},
        "backend": {"_target_": "x", "batch_size": 32, "precision": "fp32", **backend},
        "output_folder": backend.get("batch_size", 0),
        "benchmark": {"repeat": backend.get("batch_size", 0)},
    }


def test_only_what_differs_is_named_and_the_backend_first() -> None:
    found = labels([config(), config(batch_size=8, chunk=512, blend="flat")], ["torch", "torch"])
    assert [one.name for one in found] == [
        "torch, chunk 2048, batch 32, chunking.blend=sin2",
        "torch, chunk 512, batch 8, chunking.blend=flat",
    ]
    assert found[1].overrides == [
        *("backend=torch", "chunking.chunk_size=512"),
        *("backend.batch_size=8", "chunking.blend=flat"),
    ]
    assert [one.name for one in labels([config()], ["torch"])] == ["torch"]


def test_keys_of_one_backend_alone_tell_nothing() -> None:
    found = labels([config(compile=False), config(precision="bf16", threads=None)], ["torch", "openvino"])
    assert [one.name for one in found] == ["torch, fp32", "openvino, bf16"]


def test_models_are_told_by_their_names() -> None:
    other = config() | {"model": {"name": "small", "path": "somewhere"}}
    found = labels([config(), other], ["torch", "torch"])
    assert [one.name for one in found] == ["torch, demo", "torch, small"]
    assert found[1].overrides == ["backend=torch", "model=small"]


def test_what_differs_in_no_setting_is_numbered() -> None:
    assert [one.name for one in labels([config(), config()], ["torch", "torch"])] == ["torch", "torch (2)"]
