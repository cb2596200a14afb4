"""Running a script where some packages are not installed."""

import subprocess
import sys
from collections.abc import Collection
from typing import Any

BLOCK = """
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""
TORCH = frozenset(("torch", "torchvision", "timm", "configilm", "transformers", "onnxscript"))
"""torch and what comes with it."""


def run_without(packages: Collection[str], script: str, *arguments: Any) -> str:
    """What `script` prints in a new interpreter, with `arguments` in sys.argv, where `packages` cannot be imported."""
    code = BLOCK.format(packages=set(packages)) + script
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
