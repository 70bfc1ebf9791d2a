"Several processes are one: the short form of tests/processes.py; and a whole notebook under torchrun."
import json, os, subprocess, sys

import pytest

from conftest import ROOT

ONE_THREAD = dict(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")


def run(*words, **env): return subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=1800, env={**os.environ, **ONE_THREAD, **env})


def test_two_processes_train_as_one(tmp_path):
    done = run(ROOT / "tests/processes.py", "--short", "--json", tmp_path / "table.json")
    assert done.returncode == 0, done.stderr[-3000:]
    table = json.loads((tmp_path / "table.json").read_text())["runs"]
    assert len(table) == 5
    for row in table:
        assert row["ranks agree"] and row["losses apart, relative"] < (1e-12 if "float64" in row["training"] else 1e-5), row
        assert row["evaluation equal"] is (None if row["training"] == "lifter" else True), row


@pytest.mark.skipif(not os.environ.get("MPST_SLOW"), reason="a minute on an idle machine: MPST_SLOW=1 runs it")
def test_a_notebook_under_torchrun(tmp_path, runs, tiny_store):
    "One record, written by the first process, of both; what was kept to go on from is gone."
    train = ("run", "train", "-p", "method", "baseline", "-p", "images", "320", "-p", "data", tiny_store.path, "-p", "device", "cpu")
    done = run("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "mpst_nb.cli", *train)
    assert done.returncode == 0, done.stderr[-3000:]
    record, = runs.rglob("result.json")
    held = json.loads(record.read_text())
    assert held["host"]["processes"] == 2 and held["curve"][-1]["images"] == 320
    assert {"run.ipynb", "model.safetensors", "rows.parquet"} <= (names := {f.name for f in record.parent.iterdir()}) and not [n for n in names if n.endswith(".pt") or n.endswith(".lock")]


def test_more_processes_than_clips_are_refused():
    from mpst_nb.core import MpstError
    from mpst_nb.fit import _share
    class Clips:
        shares, batch = True, 1
    with pytest.raises(MpstError, match="a step has 1 clip, too few for 2 processes"): _share(Clips(), 0, 2)(0)
