"The command that everybody types first: `papermill nbs/train.ipynb -p ...` must run as typed, and typed wrong it must refuse before it trains anything."
import json, subprocess, sys
from pathlib import Path

import pytest

from conftest import ROOT, in_terminal

BIN = Path(sys.executable).parent


def papermill(*args, cwd=ROOT):
    return subprocess.run([BIN / "papermill", *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=300)


def test_the_command_is_ours():
    assert "mpst_nb.cli" in (BIN / "papermill").read_text(), "papermill was installed after this package: pip install -e . --no-deps"


@pytest.mark.parametrize("params,message", [
    (["frmes", "128"], "did you mean 'frames'"),
    (["frames", "many"], "should be int"),
    (["profile", "quik"], "did you mean 'quick'"),
    (["method", "mpts"], "did you mean 'mpst'"),
])
def test_wrong_parameter_is_refused(tmp_path, runs, params, message):
    done = papermill("nbs/train.ipynb", tmp_path / "out.ipynb", "-p", *params)
    assert done.returncode != 0 and message in done.stderr
    assert not list(runs.rglob("result.json"))


def test_typed_in_a_terminal(runs):
    "Papermill's own command ends here with: Missing argument 'OUTPUT_PATH'."
    code, screen = in_terminal(BIN / "papermill", "nbs/train.ipynb", "-p", "frmes", "128")
    assert code == 1 and "did you mean 'frames'" in screen, screen
    assert "OUTPUT_PATH" not in screen and "Traceback" not in screen and not runs.exists()


def test_typed_in_a_terminal_it_trains(tmp_path, runs, tiny_store):
    "From another working folder, on a data set of a few seconds; the executed notebook is beside the record."
    code, screen = in_terminal(BIN / "papermill", ROOT / "nbs/train.ipynb", "-p", "method", "baseline", "-p", "images", "320", "-p", "data", tiny_store.path, cwd=tmp_path)
    assert code == 0, screen
    found = [f.name for f in (runs / "quick" / "train").glob("*/*")]
    assert {"result.json", "run.ipynb", "model.safetensors"} <= set(found), found
    assert sorted(f.name for f in tmp_path.iterdir()) == ["data", "runs"]


def test_an_output_path_is_obeyed(tmp_path, runs):
    "As papermill does: the notebook goes there, relative to the working folder, and the record to its place."
    code, screen = in_terminal(BIN / "papermill", ROOT / "nbs/paper/table3.ipynb", "out.ipynb", "--no-progress-bar", cwd=tmp_path)
    assert code == 0, screen
    assert (tmp_path / "out.ipynb").exists() and (runs / "quick" / "table3" / "default" / "result.json").exists()
    assert not list(runs.rglob("run.ipynb"))


def test_other_commands_are_papermills(tmp_path):
    assert papermill("--version").stdout.split()[0] == __import__("papermill").__version__
    code, screen = in_terminal(BIN / "papermill", "elsewhere.ipynb", "-p", "frames", "8", cwd=tmp_path)
    assert code == 2 and "OUTPUT_PATH" in screen       # not a notebook of ours


def test_lost_tag_is_refused(tmp_path, runs):
    nb = json.loads((ROOT / "nbs/train.ipynb").read_text())
    for c in nb["cells"]: c["metadata"].pop("tags", None)
    (tmp_path / "train.ipynb").write_text(json.dumps(nb))
    done = papermill("train.ipynb", "out.ipynb", "-p", "frames", "128", cwd=tmp_path)
    assert done.returncode != 0 and "lost the tag 'parameters'" in done.stderr
    assert not list(runs.rglob("result.json"))
