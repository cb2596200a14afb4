"""The import of users' own classes and functions, which a configuration names."""

import importlib
from typing import Any

from benexp.core.errors import BenexpError, one_line


def import_name(key: str, path: str) -> Any:
    """The object at the dotted `path`. Raises BenexpError naming the configuration's `key` where the import fails."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    # Importing runs the user's code, which may raise anything.
    except Exception as error:
        raise BenexpError(
            f"{key}={path}: cannot be imported: {one_line(error)} (is its folder on PYTHONPATH?)"
        ) from error
