"""The notes on the engines that ONNX Runtime keeps: which engines they trust."""

from pathlib import Path

import pytest

from benexp.backends.engine_cache import drop_damaged, engines_of, take_note


def test_only_engines_that_this_session_made_or_changed_are_noted(tmp_path: Path) -> None:
    kept, others, own = (tmp_path / f"{name}.engine" for name in ("kept", "others", "own"))
    kept.write_bytes(b"kept")
    take_note(tmp_path, {})
    others.write_bytes(b"half")
    before = engines_of(tmp_path)
    own.write_bytes(b"own")
    take_note(tmp_path, before)
    drop_damaged(tmp_path)
    assert set(engines_of(tmp_path)) == {"kept.engine", "own.engine"}


@pytest.mark.parametrize("damage", [b'{"a.engine": "12', b"", b"[]", b"\xff\xfe"])
def test_damaged_notes_are_none(damage: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = tmp_path / "a.engine"
    engine.write_bytes(b"engine")
    (tmp_path / "engines.json").write_bytes(damage)
    drop_damaged(tmp_path)
    assert not engine.exists()
    assert caplog.messages[0] == f"{tmp_path / 'engines.json'} is damaged: taking no engine beside it for whole"
    engine.write_bytes(b"engine")
    take_note(tmp_path, {})
    caplog.clear()
    drop_damaged(tmp_path)
    assert engine.exists()
    assert not caplog.messages
