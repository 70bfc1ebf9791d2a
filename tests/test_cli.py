"`mpst` as a shell sees it: exit codes, messages without tracebacks, nothing left half written."
import subprocess, sys
from pathlib import Path

import pytest

from mpst_nb.plan import paper_plan

ROOT = Path(__file__).resolve().parent.parent


def mpst(*args): return subprocess.run([sys.executable, "-m", "mpst_nb.cli", *map(str, args)], capture_output=True, text=True, timeout=120)


def test_help_names_every_command():
    done = mpst("--help")
    assert done.returncode == 0
    for name in ("reproduce", "run", "prepare", "report", "claims", "sample", "predict"): assert name in done.stdout


def test_plan_lists_every_step(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("MPST_CACHE", str(tmp_path / "cache"))
    done = mpst("reproduce", "--plan", "--cores", 2)
    assert done.returncode == 0, done.stderr
    for step in paper_plan("quick"): assert step.command in done.stdout


def test_snakemake_reads_the_same_plan(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("MPST_CACHE", str(tmp_path / "cache"))
    done = subprocess.run([sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "-n", "--cores", "2", "--config", "profile=quick"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    counted = [line.split() for line in (done.stdout + done.stderr).splitlines() if line.startswith("total")]
    assert counted and int(counted[0][1]) == len(paper_plan("quick")) + 1  # and the rule that asks for all of them


@pytest.mark.parametrize("args,message", [
    (["run", "trian"], "did you mean 'train'"),
    (["run", "train", "-p", "frmes", "128"], "did you mean 'frames'"),
    (["reproduce", "--profile", "quik", "--plan"], "did you mean 'quick'"),
    (["claims", "--profile", "demo"], "mpst"),
    (["predict", "nowhere.mp4", "--calibration", "nowhere.txt", "--out", "out"], "nowhere"),
])
def test_mistakes_are_one_message(runs, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    done = mpst(*args)
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.glob("out*"))
