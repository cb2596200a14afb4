"""Jobs of SLURM: the script, and a whole run where sbatch starts it on this machine at once."""

import os
from pathlib import Path

import pytest

from benexp import BenexpError, classify
from benexp.config.schema import Execution, Slurm
from tests.execution.troubles import ASKED, files, noted

pytest.importorskip("dask_jobqueue")


@pytest.mark.filterwarnings("ignore:Port .* is already in use")
def test_the_script(tmp_path: Path) -> None:
    from benexp.execution.clusters import slurm_cluster

    slurm = Slurm(jobs=3, cores=12, memory="20GB", walltime="02:30:00", partition="gpu", account="me")
    slurm.directives, slurm.setup = ["--gres=gpu:1"], ["module load cuda"]
    with slurm_cluster(Execution("dask", workers=2, threads=2, slurm=slurm)) as cluster:
        lines = cluster.job_script().splitlines()
    asked = ("-p gpu", "-A me", "--cpus-per-task=12", "--mem=19G", "-t 02:30:00", "--gres=gpu:1", "-n 1")
    assert {f"#SBATCH {one}" for one in asked} <= set(lines)
    setup, worker = lines.index("module load cuda"), len(lines) - 1
    assert lines.index("export BENEXP_CORES=12") < setup < worker
    assert "export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False" in lines
    assert "--nthreads 2" in lines[worker] and "--resources tile=1" in lines[worker]


def test_where_there_is_no_slurm(safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenexpError, match="no sbatch on this machine"):
        classify(safe, tmp_path / "out", *ASKED, "execution=dask", "execution.slurm.jobs=1")


@pytest.mark.long
def test_a_run_in_jobs(
    safe: Path, alone: dict[str, bytes], notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's number is that of a group of processes, which scancel ends."""
    tools = tmp_path / "tools"
    tools.mkdir()
    batch = 'setsid bash "$1" >/dev/null 2>&1 & echo "Submitted batch job $!"'
    cancel = f'echo "$@" >> {tmp_path}/cancelled; for job in "$@"; do kill -TERM -- "-$job"; done'
    for name, script in (("sbatch", batch), ("scancel", cancel)):
        (tools / name).write_text(f"#!/bin/bash\n{script}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(Path(__file__).parents[2])
    jobs = ("execution.slurm.jobs=2", "execution.slurm.memory=2GB", "execution.slurm.cores=1")
    record = classify(safe, tmp_path / "out", *ASKED, "execution=dask", *jobs, f"backend.folder={notes}")
    assert files(tmp_path / "out" / record["tile"]) == alone
    assert noted(notes, "opened")
    assert len((tmp_path / "cancelled").read_text().split()) == 2
