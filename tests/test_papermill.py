"The command that everybody types first, typed wrong: `papermill nbs/train.ipynb -p ...` must refuse before it trains anything."
import json, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def papermill(*args, cwd=ROOT, env=None):
    import os
    return subprocess.run([BIN / "papermill", *map(str, args)], cwd=cwd, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=300)


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


def test_lost_tag_is_refused(tmp_path, runs):
    nb = json.loads((ROOT / "nbs/train.ipynb").read_text())
    for c in nb["cells"]: c["metadata"].pop("tags", None)
    (tmp_path / "train.ipynb").write_text(json.dumps(nb))
    done = papermill("train.ipynb", "out.ipynb", "-p", "frames", "128", cwd=tmp_path)
    assert done.returncode != 0 and "lost the tag 'parameters'" in done.stderr
    assert not list(runs.rglob("result.json"))
