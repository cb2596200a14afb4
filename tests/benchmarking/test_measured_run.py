"""What the process that measures does beside the work it times."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benexp.benchmarking.measured_run import _read_once
from tests.products.builders import TEN, write_folder


def test_every_file_that_a_run_reads_is_in_the_cache_before_it(tmp_path: Path) -> None:
    product = write_folder(tmp_path / "in", size=(120, 120), scl=np.ones((60, 60), np.uint8))
    seen: list[str] = []
    opens = Path.open

    def noted(path: Path, *args: Any, **kwargs: Any) -> Any:
        seen.append(path.name)
        return opens(path, *args, **kwargs)

    with patch.object(Path, "open", noted):
        _read_once(product, TEN)
    assert {f"{band}.tif" for band in (*TEN, "SCL")} <= set(seen)
