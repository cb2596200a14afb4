"""Hashes of configurations: equal where two runs were asked for the same."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from benexp.config.schema import Config

NOT_IN_HASH = (
    *(
        "tile_folder",
        "input_dir",
        "output_folder",
        "tracking",
        "resume",
        "overwrite",
        "output_name",
        "dry_run",
        "benchmark",
        "recommend",
        "serve",
    ),
    "execution",
)
"""The keys of folders, and of how runs are executed, tracked and measured."""


def config_hash(config: Config) -> str:
    """The digest of a configuration without the keys of NOT_IN_HASH."""
    asked = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(asked, dict)
    return asked_hash({str(key): value for key, value in asked.items()})


def asked_hash(asked: Mapping[str, Any]) -> str:
    """The same of a configuration as records show it."""
    return digest({key: value for key, value in asked.items() if key not in NOT_IN_HASH})


def digest(value: Any) -> str:
    """sha256 of anything that JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
