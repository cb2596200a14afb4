"""Makes timm importable where torchvision's compiled half does not load.

A CUDA build of torchvision beside a CPU build of torch raises `operator torchvision::nms does not exist` on import, and
timm imports torchvision. No classifier uses those operators: it is enough that they are declared.
"""

import sys
from typing import Any

_declared: list[Any] = []
"""Keeps the declarations alive: an operator goes when its library object does."""


def import_timm() -> Any:
    """The module timm; declares the two missing operators first where, and only where, torchvision fails for them."""
    import torch

    try:
        import torchvision  # type: ignore[import-untyped]  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
    import timm

    return timm
