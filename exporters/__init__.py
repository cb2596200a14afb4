"""From a model to a file for another engine, checked against the model before it is named done.

`cached.make` makes any of them under a name of yours, `cached.cached` keeps them in benexp's cache; each format by
itself: `onnx.export_onnx`, `openvino.export_openvino`, `tensorrt.export_tensorrt` (and `trtexec_command`), and
`quantize` for int8, with ranges measured on `ranges.RangePatches`. `parity` says how far a file is from the model,
`mlm.write_item` describes it in a STAC item. A model is what `benexp.models.resolve.resolve` returns.

>>> from pathlib import Path
>>> from benexp.models.resolve import DEMO_MODEL, resolve
>>> from exporters.onnx import export_onnx
>>> bands = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
>>> demo = {"name": "demo", "weights": "folder", "path": DEMO_MODEL, "architecture": "test_resnet", "bands": bands}
>>> report = export_onnx(resolve(demo), Path("demo.onnx"))  # doctest: +SKIP
"""
