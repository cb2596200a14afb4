import subprocess
import sys

import pytest

SCRIPT = """
import sys, types
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

class Broken(MetaPathFinder, Loader):
    def find_spec(self, name, path, target=None):
        return ModuleSpec(name, self) if name == "torchvision" else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        raise RuntimeError("torchvision is broken in another way")

sys.meta_path.insert(0, Broken())
from benexp.models.torchvision_shim import import_timm
try:
    import_timm()
except RuntimeError as error:
    print(error)
"""


def test_timm_imports() -> None:
    from benexp.models.torchvision_shim import import_timm

    assert import_timm().__name__ == "timm"
    # Again, in the same process: operators can be declared once only.
    import_timm()


@pytest.mark.parametrize("message", ["torchvision is broken in another way"])
def test_other_failures_are_not_hidden(message: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == message
