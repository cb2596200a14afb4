"""The doctor: trials that work, fail, fall back and crash; engines that are missing; and what is said of them."""

import os
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from benexp import BenexpError
from benexp.backends.null import NullBackend
from benexp.cli.dispatch import run
from benexp.config.groups import conf_folder
from benexp.runs.backend_trial import Trial, TrialOutcome, trials_of, try_backend
from benexp.tasks import doctor


class Moody(NullBackend):
    """A user's own: every precision fares in another way."""

    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "fp16", "int8")

    def _open(self) -> None:
        match self.precision:
            case "bf16":
                os.abort()
            case "fp16":
                self._fell_back("fp16", "fp32", "buy a newer machine")
            case "int8":
                try:
                    import no_such_engine  # noqa: F401
                except ImportError as error:
                    raise BenexpError("Moody needs no_such_engine: pip install 'no-such-engine[fast]'") from error


class Nowhere(NullBackend):
    """Its one device is not there."""

    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    tries: ClassVar[int] = 0

    def _open(self) -> None:
        Nowhere.tries += 1
        self._fell_back("cuda", "cpu", f"try {self.tries}")


class Wrong(NullBackend):
    """Answers NaN."""

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        return super()._infer(patches) * np.float32("nan")


def attempt(backend: dict[str, Any]) -> list[TrialOutcome]:
    """The outcomes of all trials on the demo model."""
    model = doctor._yaml(conf_folder() / "model" / "demo.yaml")
    return try_backend(backend, trials_of(backend), model, patch_size=120, seed=0, tolerances={})


def shipped(name: str, **changes: Any) -> dict[str, Any]:
    return {**doctor._yaml(conf_folder() / "backend" / f"{name}.yaml"), "threads": 1, **changes}


def hide(monkeypatch: pytest.MonkeyPatch, folder: Path, *modules: str) -> None:
    """Make imports of modules fail in processes that are started from now on."""
    for module in modules:
        (folder / f"{module}.py").write_text(
            f"raise ModuleNotFoundError(\"No module named '{module}'\", name='{module}')\n"
        )
    monkeypatch.syspath_prepend(str(folder))


def test_every_trial_has_its_own_outcome_and_a_crash_is_only_one_of_them() -> None:
    outcomes = attempt({"_target_": f"{__name__}.Moody"})
    assert [outcome.trial.precision for outcome in outcomes] == ["fp32", "bf16", "fp16", "int8"]
    works, crashed, falls, missing = outcomes
    assert (works.verdict, works.what) == ("works", "Moody")
    assert crashed.verdict == "crashed"
    assert crashed.what.startswith("killed by SIGABRT")
    assert falls.verdict == "falls back"
    assert "fp16 was asked for, but fp32 is what would run: buy a newer machine" in falls.what
    assert missing.verdict == "not installed"
    assert missing.install == "pip install 'no-such-engine[fast]'"
    assert works.install is None


def test_a_device_that_is_not_there_is_tried_once() -> None:
    outcomes = attempt({"_target_": f"{__name__}.Nowhere"})
    assert [outcome.verdict for outcome in outcomes] == ["falls back", "falls back"]
    assert all("try 1" in outcome.what for outcome in outcomes)


def test_wrong_answers_do_not_work() -> None:
    (outcome,) = attempt({"_target_": f"{__name__}.Wrong"})
    assert outcome.verdict == "does not work"
    assert "answered NaN" in outcome.what


def test_a_missing_engine_reads_otherwise_than_a_missing_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("BENEXP_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "a").mkdir()
    hide(monkeypatch, tmp_path / "a", "torch")
    assert attempt(shipped("torch"))[0].install == "pip install 'benexp[torch]'"
    untried = attempt(shipped("onnxruntime-cpu"))[0]
    assert untried.verdict == "not tried"
    assert "needs torch" in untried.what
    (tmp_path / "b").mkdir()
    hide(monkeypatch, tmp_path / "b", "onnxruntime")
    missing = attempt(shipped("onnxruntime-cpu"))[0]
    assert missing.verdict == "not installed"
    assert missing.install == "pip install 'benexp[cpu]'"


def test_install_commands_are_found_in_reasons() -> None:
    def command(what: str) -> str | None:
        return TrialOutcome(Trial("fp32", "cpu"), "does not work", what).install

    assert command("x needs y: pip install 'benexp[cpu]', or not") == "pip install 'benexp[cpu]'"
    both = "pip uninstall -y onnxruntime && pip install 'benexp[gpu]'"
    assert command(f"has none: {both}; or accept it") == both
    assert command("old: pip install -U 'benexp[tensorrt]'") == "pip install -U 'benexp[tensorrt]'"
    assert command("it is broken") is None


def test_rows_gather_what_fares_alike() -> None:
    outcomes = [
        TrialOutcome(Trial("fp32", "cpu"), "works", "engine 1"),
        TrialOutcome(Trial("bf16", "cpu"), "works", "engine 1"),
        TrialOutcome(Trial("fp32", "cuda"), "not installed", "needs it: pip install it"),
    ]
    head = doctor._row(8, "backend", "device", "precision", "result", "")
    lines = list(doctor._rows(8, "thing", outcomes))
    assert lines == [
        "thing     cpu     fp32 bf16            works          engine 1",
        "thing     cuda    fp32                 not installed",
        "    needs it: pip install it",
        "    install: pip install it",
    ]
    assert head.index("result") == lines[0].index("works") == lines[1].index("not")


def consult(*overrides: str) -> tuple[list[dict[str, Any]], str]:
    """The records and the words of `benexp task=doctor OVERRIDES`."""
    said: list[str] = []
    words = ["task=doctor", *overrides]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        composed = compose("config", words)
    return run(composed, words, said.append), "\n".join(said)


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Leave only these of the shipped backends."""
    everything = doctor._backends
    monkeypatch.setattr(doctor, "_backends", lambda config: {n: b for n, b in everything(config).items() if n in names})


def test_the_machine_and_a_user_s_own_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "null", "Moody")
    records, text = consult(f"backend._target_={__name__}.Moody")
    facts = dict(line.split(maxsplit=1) for line in text.splitlines()[:9] if not line.startswith(" ") and line)
    assert {"benexp", "processor", "cores", "memory", "GPU", "libraries", "GDAL"} <= set(facts)
    assert re.match(r"\d+ usable of \d+", facts["cores"])
    assert "JP2OpenJPEG" in facts["GDAL"]
    assert [(r["backend"], r["verdict"]) for r in records][:3] == [
        ("null", "works"),
        ("Moody", "works"),
        ("Moody", "crashed"),
    ]
    assert "on demo (the demo model of benexp)" in text


def test_nothing_that_works_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "null", "Nowhere")
    with pytest.raises(BenexpError, match="no backend works on this machine"):
        consult(f"backend._target_={__name__}.Nowhere")


def test_two_onnx_runtimes_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "Moody")
    monkeypatch.setattr("benexp.core.installed.installed_runtimes", lambda: ["onnxruntime", "onnxruntime-gpu"])
    _, text = consult(f"backend._target_={__name__}.Moody")
    assert "TO MEND FIRST: onnxruntime and onnxruntime-gpu are installed together" in text


def test_libraries_for_two_versions_of_cuda_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "Moody")
    monkeypatch.setattr("benexp.tasks.doctor.cuda_mix", lambda: "one for CUDA 12 and one for CUDA 13")
    _, text = consult(f"backend._target_={__name__}.Moody")
    assert "TO MEND FIRST: one for CUDA 12 and one for CUDA 13" in text


def test_a_class_that_cannot_be_imported_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "Gone", "null")
    with pytest.raises(BenexpError, match="no backend works"):
        consult("backend._target_=no_such_package.Gone")


def test_a_dry_run_says_what_it_would_try(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "null", "Moody")
    monkeypatch.setattr(doctor, "try_backend", lambda *_, **__: pytest.fail("a backend was tried"))
    monkeypatch.setattr(doctor, "resolve", lambda *_, **__: pytest.fail("a model was fetched"))
    records, text = consult(f"backend._target_={__name__}.Moody", "dry_run=true")
    assert [record["trial"]["precision"] for record in records] == ["fp32", "fp32", "bf16", "fp16", "int8"]
    assert "would try on demo" in text
    assert re.search(r"^Moody +cpu +fp32 bf16 fp16 int8$", text, re.MULTILINE)


def test_a_dry_run_says_what_cannot_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "null", "Wrong")
    records, text = consult(f"backend._target_={__name__}.Wrong", "backend.precision=int8", "dry_run=true")
    assert [record.get("verdict") for record in records] == [None, "does not work"]
    assert re.search(r"^Wrong +int8 +does not work\n +backend\.precision=int8: Wrong takes fp32$", text, re.MULTILINE)


@pytest.mark.long
def test_all_shipped_backends() -> None:
    records, text = consult()
    found = {(r["backend"], r["trial"]["device"], r["trial"]["precision"]): r["verdict"] for r in records}
    assert found["null", "cpu", "fp32"] == "works"
    assert found["torch", "cpu", "bf16"] == "works"
    assert found["onnxruntime-cpu", "cpu", "fp32"] == "works"
    assert {name for name, _, _ in found} == {path.stem for path in (conf_folder() / "backend").glob("*.yaml")}
    assert "unexpected" not in text
