import json
from dataclasses import asdict
from hashlib import sha256 as hash_bytes
from pathlib import Path

import pytest

from benexp.core.errors import BenexpError
from benexp.models import published
from tests.models.builders import ARCHITECTURE, S2


def folder_with(path: Path, weights: str | None = published.WEIGHTS, **changes: object) -> Path:
    (path / "config.json").write_text(json.dumps(published.configuration(ARCHITECTURE, len(S2)) | changes))
    if weights:
        (path / weights).write_bytes(b"")
    return path


def test_configuration_is_what_configilm_writes() -> None:
    from benexp.models.torchvision_shim import import_timm

    import_timm()
    configilm = pytest.importorskip("configilm.ConfigILM")
    expected = asdict(
        configilm.ILMConfiguration(
            timm_model_name="resnet50",
            channels=10,
            classes=19,
            class_names=[str(i) for i in range(19)],
            drop_rate=0.15,
            drop_path_rate=0.15,
        )
    )
    assert published.configuration("resnet50", 10) == expected


def test_a_whole_folder_passes(tmp_path: Path) -> None:
    published.check_folder(folder_with(tmp_path), ARCHITECTURE, S2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network_type": 1}, "network_type is 1: it takes 0, image classification"),
        ({"channels": 12}, "channels is 12, but the number of model.bands .* is 10"),
        ({"classes": 43}, "classes is 43, but the number of BigEarthNet classes is 19"),
        ({"timm_model_name": "resnet50"}, f"timm_model_name is resnet50, but model.architecture is {ARCHITECTURE}"),
        ({"weights": None}, "holds no model.safetensors"),
        ({"weights": "pytorch_model.bin"}, "pytorch_model.bin is a pickle"),
        ({"weights": "model.pt"}, "model.pt is a pickle"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(BenexpError, match=message) as raised:
        published.check_folder(folder_with(tmp_path, **changes), ARCHITECTURE, S2)  # type: ignore[arg-type]
    assert str(tmp_path) in str(raised.value)


def test_missing_folder_and_missing_or_broken_config(tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match=r"model\.path=.*nowhere is no folder"):
        published.check_folder(tmp_path / "nowhere", ARCHITECTURE, S2)
    with pytest.raises(BenexpError, match=r"holds no config\.json"):
        published.check_folder(tmp_path, ARCHITECTURE, S2)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BenexpError, match=r"config\.json is no JSON"):
        published.check_folder(tmp_path, ARCHITECTURE, S2)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(BenexpError, match=r"holds a list, not an object"):
        published.check_folder(tmp_path, ARCHITECTURE, S2)


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"weights")
    assert published.sha256(tmp_path / "file") == hash_bytes(b"weights").hexdigest()
