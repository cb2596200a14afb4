"""benexp classifies whole Sentinel-2 tiles with BigEarthNet v2.0 models.

`from benexp import classify` does from Python what the command line does.
"""

from benexp.core.errors import BenexpError
from benexp.version import __version__

__all__ = ["BenexpError", "__version__", "classify"]


def __getattr__(name: str) -> object:
    # Late, so that `import benexp` stays cheap: classifying pulls in Hydra, GDAL and an engine.
    if name == "classify":
        from benexp.api import classify

        return classify
    raise AttributeError(f"module 'benexp' has no attribute {name!r}")
