"The whole chain on a data set of a few seconds: render, train the baseline and ours from it, lift, decide; and what happens when a link is missing."
import json

import pytest

from mpst_nb.core import MpstError, load_runs, run_notebook


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, tiny_store):
    "The tiny studio, and empty folders for runs and tokens."
    patch = pytest.MonkeyPatch()
    patch.setenv("MPST_RUNS", str(tmp_path_factory.mktemp("whole") / "runs"))
    yield tiny_store
    patch.undo()


def test_lifting_without_a_detector_says_what_to_run(tiny):
    with pytest.raises(MpstError, match="mpst run train -p profile quick -p method baseline"): run_notebook("lift", dict(detector="baseline", data=str(tiny.path)))


def test_clip_longer_than_a_sequence_is_refused(tiny):
    with pytest.raises(MpstError, match="frames=128 is more than"): run_notebook("train", dict(frames=128, data=str(tiny.path)))
    assert load_runs("quick", "train") == []


def test_parameter_without_meaning_is_refused(tiny):
    with pytest.raises(MpstError, match="no meaning for baseline"): run_notebook("train", dict(method="baseline", relations="3d", data=str(tiny.path)))


def test_chain(tiny):
    data = str(tiny.path)
    baseline = run_notebook("train", dict(method="baseline", images=320, data=data))
    ours = run_notebook("train", dict(frames=8, images=4096, baseline=str(baseline), data=data))
    lifted = run_notebook("lift", dict(detector=str(ours), data=data))
    a, b, c = (json.loads((f / "result.json").read_text()) for f in (baseline, ours, lifted))
    assert a["data"] == b["data"] == c["data"] and a["data"]["hash"] == tiny.hash
    assert b["metrics"]["MSE"] > 0 and set(b["metrics"]["views"]) == {"1", "2", "3", "4"}
    assert b["frozen_spatial_module"] and not a["frozen_spatial_module"]
    assert c["metrics"]["triangulated"]["MPJPE"] > 0 and c["detector_run"] == ours.name
    assert not (baseline / "last.pt").exists() and (ours / "model.safetensors").exists() and (ours / "run.ipynb").exists()
