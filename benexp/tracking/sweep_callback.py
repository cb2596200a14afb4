"""Where Hydra tells that a sweep begins, before its jobs do, wherever those run."""

import logging
import os
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

log = logging.getLogger("benexp")


class OpenSweep(Callback):
    """Opens the run in MLflow that the jobs' runs lie beneath; benexp.cli.app closes it."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        # Hydra instantiates callbacks for every command, which must be quick.
        from benexp.config.validation import check
        from benexp.core.errors import BenexpError
        from benexp.tracking.recorder_client import is_wanted, open_sweep

        overrides = list(config.hydra.overrides.task)
        try:
            checked = check(DictConfig({key: value for key, value in config.items() if key != "hydra"}))
            folder = Path(checked.output_folder).expanduser()
            if is_wanted(checked, overrides):
                # Where the run cannot be noted, there will be none to go on with, nor any job.
                folder.mkdir(parents=True, exist_ok=True)
                if os.access(folder, os.W_OK):
                    open_sweep(checked, overrides)
        except (BenexpError, OSError):
            return  # the jobs say what is wrong
