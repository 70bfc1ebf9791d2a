"""The paper profile from a release to Table II, at the network's real sizes: the studio writes itself as Human3.6M's official release, `mpst prepare h36m` makes a
store of it, ours takes one step on it, and PoseFormer one pass on ours. What no GPU and no licence let us run in full is at least walked."""
import json, os, re, signal, subprocess, sys, time

import numpy as np
import pytest

from mpst_nb.core import MpstError, RunRecord, run_notebook
from mpst_nb.data.clips import open_store
from mpst_nb.data.h36m import H36M_NAMES, write_metadata, write_poses
from mpst_nb.data.release import export_studio, film, studio_poses
from mpst_nb.data.studio import StudioConfig, Take

STUDIO = StudioConfig(subjects=("S1", "S9"), actions=("Walking",), trials=1, frames=4, fps=50., size=224)


def psnr(a, b): return 10 * np.log10(255**2 / ((np.asarray(a, float) - b)**2).mean())


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return export_studio(STUDIO, tmp_path_factory.mktemp("h36m") / "release", workers=1)


@pytest.fixture(scope="module")
def prepared(release, tmp_path_factory):
    "The store that the command makes where the paper profile looks for it, and empty folders for the rest."
    from mpst_nb.cli import main
    patch, work = pytest.MonkeyPatch(), tmp_path_factory.mktemp("paper")
    for name in ("runs", "cache"): patch.setenv(f"MPST_{name.upper()}", str(work / name))
    patch.setenv("HF_HUB_OFFLINE", "1")                       # the pretrained weights are not looked for
    assert main(["prepare", "h36m", str(release.path), "--workers", "1"]) == 0
    yield open_store(work / "cache" / "h36m-paper")
    patch.undo()


@pytest.mark.parametrize("subject", STUDIO.subjects)
def test_what_is_prepared_is_the_studios_own(prepared, subject):
    take, s = Take(subject, "Walking", 1, STUDIO), prepared.sequence(f"{subject}-Walking-1")
    assert np.abs(s.joints3d - take.joints3d).max() < 1e-3                      # mm
    assert np.abs(s.joints2d - take.joints2d).max() < 1e-3                      # px
    assert np.abs(np.stack([c.project(s.joints3d) for c in s.cameras]) - take.joints2d).max() < 1e-3
    assert np.abs(s.crop - take.crop).max() < 1e-3 and s.present.all()
    crops, own = prepared.crops(f"{subject}-Walking-1"), np.stack([take.frame(i) for i in range(STUDIO.frames)], 1)
    quality, inner = psnr(crops, own), (slice(None), slice(None), slice(2, -2), slice(2, -2))
    shifted = [psnr(np.roll(crops, s, axis)[inner], own[inner]) for axis in (2, 3) for s in (-1, 1)]
    print(f"{subject}: crops through two compressions against the studio's own, PSNR {quality:.1f} dB; shifted by a pixel {max(shifted):.1f}, a frame late {psnr(crops[:, 1:], own[:, :-1]):.1f}")
    assert quality > 31 and max(shifted) < quality - 1                         # the same pictures, at the same place
    assert psnr(crops[:, 1:], own[:, :-1]) < quality - .5 and psnr(crops[:, :-1], own[:, 1:]) < quality - .5   # and of the same moment


def test_preparing_again_opens_it(prepared, release, capsys):
    from mpst_nb.cli import main
    before = {f: f.stat().st_mtime_ns for f in prepared.path.rglob("*") if f.is_file()}
    assert main(["prepare", "h36m", str(release.path)]) == 0 and main(["prepare", "h36m"]) == 0
    assert "2 sequences" in capsys.readouterr().out
    assert {f: f.stat().st_mtime_ns for f in prepared.path.rglob("*") if f.is_file()} == before


def test_a_release_without_videos_is_a_data_set_of_poses(release, tmp_path, capsys):
    from mpst_nb.cli import main
    from mpst_nb.data.h36m import write_official
    write_official(release.poses(), tmp_path / "poses")
    assert main(["prepare", "h36m", str(tmp_path / "poses"), "--out", str(tmp_path / "store"), "--workers", "1"]) == 0
    assert capsys.readouterr().out.startswith("no pictures here: a data set of poses, for lifting and triangulation; train needs pictures\n")
    s, take = open_store(tmp_path / "store").sequence("S9-Walking-1"), Take("S9", "Walking", 1, STUDIO)
    assert not s.present.any() and np.abs(s.joints3d - take.joints3d).max() < 1e-3 and np.abs(s.joints2d - take.joints2d).max() < 1e-3


def test_the_paper_profile_trains_and_lifts(prepared):
    "One step of 64 images of Swin-T, ViT-sized relations and the head; then PoseFormer on the joints that it finds. Short clips and a short window: only those are not the paper's."
    ours = RunRecord(run_notebook("train", dict(profile="paper", frames=2, images=64, device="cpu")))
    assert ours.record["protocol"] == "videopose3d" and ours.record["data"]["source"] == "h36m" and ours.record["data"]["hash"] == prepared.hash
    assert ours.record["curve"][-1]["images"] == 64 and np.isfinite(ours.metrics["MSE"]) and ours.metrics["MSE_hidden"] is None   # what is hidden is not known
    config = json.loads((ours.path / "config.json").read_text())
    assert (config["size"], config["dim"], list(config["depths"])) == (224, 96, [2, 2, 6, 2])
    assert {k: v.shape for k, v in ours.predictions().items()} == {k: (4, STUDIO.frames, 17, 2) for k in prepared.keys()}

    assert ours.metrics["protocol"] == "videopose3d" and ours.metrics["protocol_settings"]["drop"] == ["S11-Directions-2"] and ours.metrics["dropped"] == []

    lifted = RunRecord(run_notebook("lift", dict(profile="paper", detector=str(ours.path), frames=9, device="cpu")))
    assert lifted.record["protocol"] == "videopose3d" and lifted.record["detector_run"] == ours.path.name
    assert 0 < lifted.metrics["MPJPE"] < 5000 and lifted.metrics["triangulated"]["MPJPE"] > 0 and list(lifted.metrics["per_action"]) == ["Walking"]
    for m in (lifted.metrics, lifted.metrics["triangulated"]): assert (m["protocol"], m["protocol_settings"]["stride"], m["protocol_settings"]["mean"], m["frame_step"]) == ("videopose3d", 1, "action", 1)
    assert json.loads((lifted.path / "config.json").read_text())["frames"] == 9

    judged = lifted.metrics["protocols"]                           # what other papers' rules make of the same poses
    assert list(judged) == ["videopose3d", "motionbert", "karfly", "microsoft"] and judged["videopose3d"]["lifted"]["MPJPE"] == lifted.metrics["MPJPE"]
    assert judged["microsoft"]["triangulated"]["n"] == 1 and judged["videopose3d"]["triangulated"]["n"] == STUDIO.frames           # every 64th frame of four
    assert judged["karfly"]["lifted"]["MPJPE"] != judged["motionbert"]["lifted"]["MPJPE"]                                          # without the mirrored image, and with it


SHORT = """from dataclasses import replace
from mpst_nb import core
for p in ("paper", "quick"): core.PROFILES[p] = replace(core.PROFILES[p], lift=core.PROFILES[p].lift | dict(windows=64, batch=16))
"""

def test_a_row_of_table2_is_made(prepared, tmp_path, monkeypatch):
    "PoseFormer at the paper's own settings but for the number of windows that it sees, so that its record is one of the table's rows."
    (tmp_path / "sitecustomize.py").write_text(SHORT); monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    lifted = RunRecord(run_notebook("lift", dict(profile="paper", detector="gt", device="cpu")))
    assert json.loads((lifted.path / "config.json").read_text())["frames"] == 81 and lifted.record["curve"][-1]["windows"] == 64
    table = RunRecord(run_notebook("table2", dict(profile="paper"))).metrics["mpjpe"]
    assert table["name"] == "table2_mpjpe" and "MPJPE (mm)" in table["title"]
    measured = [c["value"] for row in table["rows"] for c in row if c["kind"] == "measured" and c["value"] is not None]
    assert any(abs(v - lifted.metrics["MPJPE"]) < 1e-6 for v in measured) and any(abs(v - lifted.metrics["triangulated"]["MPJPE"]) < 1e-6 for v in measured)


NOISE, FRAMES = 3., 12

def detected(s):
    "What a detector could have found of a sequence, a list of views: noise on the truth, frames that the mocap has not, frames that the detector has not, a joint that two cameras see and one that a single camera sees."
    uv = list(s.joints2d + np.random.default_rng(int(s.subject[1:])).normal(0, NOISE, s.joints2d.shape))
    uv[0] = np.concatenate([uv[0], np.zeros((7, 17, 2))]); uv[3] = uv[3][:-2]
    uv[1][5, 12] = uv[2][5, 12] = uv[0][4, 9] = uv[1][4, 9] = uv[2][4, 9] = np.nan
    return uv


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    "Human3.6M as VideoPose3D and MotionBERT pass it on, poses and a detector's 2D and no picture; and folders for what is made of them."
    from dataclasses import replace
    from mpst_nb.data.h36m import write_motionbert, write_videopose3d
    patch, work = pytest.MonkeyPatch(), tmp_path_factory.mktemp("published")
    patch.setenv("MPST_RUNS", str(work / "runs"))
    poses = list(studio_poses(StudioConfig(subjects=("S1", "S9"), actions=("Walking",), trials=1, frames=FRAMES)))
    write_videopose3d(poses, work / "videopose3d")
    flat = {s.subject: {H36M_NAMES[s.subject][s.action, s.trial]: [np.float32(v) for v in detected(s)]} for s in poses}
    np.savez(work / "videopose3d/data_2d_h36m_cpn_ft_h36m_dbb.npz", positions_2d=np.array(flat, object), metadata=np.array(dict(num_joints=17), object))
    write_motionbert([replace(s, joints2d=s.joints2d + np.random.default_rng(3).normal(0, NOISE, s.joints2d.shape)) for s in poses], work / "motionbert")
    yield work
    patch.undo()


def prepared_poses(work, form, capsys, *more):
    from mpst_nb.cli import main
    assert main(["prepare", "h36m", str(work / form), "--out", str(work / f"{form}-store"), *more]) == 0
    return open_store(work / f"{form}-store"), capsys.readouterr().out


def straight(camera, uv):
    "Image px to x/z, y/z: the lens of Human3.6M (no factor 2 in the tangential term) undone by repeating its own formula."
    goal = (np.asarray(uv, float) - camera.c) / camera.f; xy = goal.copy()
    for _ in range(50):
        r2 = (xy**2).sum(-1, keepdims=True); scale = 1 + r2 * camera.k[0] + r2**2 * camera.k[1] + r2**3 * camera.k[2] + xy[..., 1:] * camera.p[0] + xy[..., :1] * camera.p[1]
        xy = (goal - r2 * camera.p[::-1]) / scale
    return xy


def linear_triangulation(cameras, uv):
    "A point at a time: the null vector of what the views that have it say, by NumPy's SVD, once more with each view over its distance, so that px count alike; NaN where fewer than two have it."
    rays, out = np.stack([straight(c, x) for c, x in zip(cameras, uv)]), np.full((*uv.shape[1:-1], 3), np.nan)
    middle = np.mean([c.T for c in cameras], 0); P = [np.c_[c.R * 1000, c.R @ (middle - c.T)] for c in cameras]           # metres about the middle of the cameras
    for at in np.ndindex(out.shape[:-1]):
        seen, far = [(r[at], p) for r, p in zip(rays, P) if np.isfinite(r[at]).all()], lambda p: 1.
        for _ in range(2 * (len(seen) >= 2)):
            X = np.linalg.svd(np.array([(x * p[2] - p[i]) / far(p) for r, p in seen for i, x in enumerate(r)]))[2][-1]; X = X / X[3]
            out[at], far = 1000 * X[:3] + middle, lambda p, X=X: p[2] @ X
    return out


def test_videopose3d_and_its_detections_become_a_row_of_table2(published, capsys, tmp_path, monkeypatch):
    from mpst_nb.data.source import detections_of
    store, said = prepared_poses(published, "videopose3d", capsys)
    assert said.startswith("no pictures here: a data set of poses, for lifting and triangulation, with the 2D of cpn_ft_h36m_dbb; train needs pictures\n") and "2 sequences of poses, 24 frames of each view, no pictures" in said
    name, joints = detections_of(store); uv = joints["S9-Walking-1"]; s = store.sequence("S9-Walking-1"); off = uv - s.joints2d
    assert name == "cpn_ft_h36m_dbb" and uv.shape == (4, FRAMES, 17, 2) and np.isnan(uv).any(-1).sum() == 2 * 17 + 5 and abs(np.nanstd(off) - NOISE) < .2   # image px
    (tmp_path / "sitecustomize.py").write_text(SHORT); monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    lifted = RunRecord(run_notebook("lift", dict(profile="quick", data=str(store.path), detector="given", device="cpu")))
    m, X = lifted.metrics, linear_triangulation(s.cameras, uv); assert lifted.record["detections"] == lifted.record["detector_run"] == name and lifted.record["data"]["hash"] == store.hash and lifted.record["protocol"] == "videopose3d"
    assert list(m["protocols"]) == ["videopose3d", "motionbert", "karfly", "microsoft"] and m["protocols"]["karfly"]["triangulated"]["MPJPE"] > 0 and m["masked"]["no_prediction"] == 0
    error = np.linalg.norm((X - X[:, :1]) - (s.joints3d - s.joints3d[:, :1]), axis=-1); own = float(np.nanmean(error))         # VideoPose3D's rules: root-relative, every joint that there is
    print(f"triangulated {m['triangulated']['MPJPE']:.3f} mm, by NumPy alone {own:.3f} mm")
    kept = lifted.predictions()["S9-Walking-1/triangulated"]; assert np.array_equal(np.isnan(kept), np.isnan(X)) and np.nanmax(np.abs(kept - X)) < 2          # mm; the noise is worth fifty
    assert abs(m["triangulated"]["MPJPE"] - own) < .05 and 5 < own < 50 and m["triangulated"]["masked"]["no_prediction"] == np.isnan(X).any(-1).sum() == 1
    rows = {r[0]["text"]: [c["value"] for c in r if c["kind"] == "measured" and c["value"] is not None] for r in RunRecord(run_notebook("table2", dict(profile="quick"))).metrics["mpjpe"]["rows"]}
    for what, own in (("PoseFormer on", m), ("triangulation of", m["triangulated"])): assert rows[f"{what} the 2D of {name}"] == pytest.approx([own["MPJPE"]] * 2)       # Walking, and the average


def test_motionbert_and_its_detections_are_lifted(published, capsys):
    from mpst_nb.camera import triangulate
    from mpst_nb.data.source import detections_of
    store, said = prepared_poses(published, "motionbert", capsys, "--detections", "sh"); name, joints = detections_of(store)
    assert name == "sh" and "2D detections: sh, 100.0% of the joints found" in said
    uv = joints["S9-Walking-1"]; s = store.sequence("S9-Walking-1"); assert np.abs(triangulate(s.cameras, uv)[0] - linear_triangulation(s.cameras, uv)).max() < 1      # mm; the noise is worth fifty
    gt = RunRecord(run_notebook("lift", dict(profile="quick", data=str(store.path), detector="gt", frames=9, windows=32, batch=16, device="cpu")))
    assert gt.metrics["triangulated"]["MPJPE"] < .01 and 0 < gt.metrics["MPJPE"] < 5000 and "detections" not in gt.record and gt.record["detector_run"] == "ground truth"


def test_what_poses_cannot_do_is_refused(published, capsys):
    from mpst_nb.cli import main
    from mpst_nb.data.source import detections_of, open_data
    store, _ = prepared_poses(published, "videopose3d", capsys, "--detections", "cpn_ft_h36m_dbb")
    with pytest.raises(MpstError, match="a data set of poses, without pictures.*mpst run lift -p data"): run_notebook("train", dict(profile="paper", data=str(store.path), device="cpu"))
    with pytest.raises(MpstError, match="a data set of poses, without pictures"): open_data("paper", store.path)
    without = prepared_poses(published, "videopose3d", capsys, "--detections", "gt", "--out", str(published / "bare"))[0] and open_store(published / "bare")
    with pytest.raises(MpstError, match="came without 2D detections: prepare it again with --detections"): detections_of(without)
    (published / "videopose3d/data_2d_h36m_hrnet.npz").write_bytes((published / "videopose3d/data_2d_h36m_cpn_ft_h36m_dbb.npz").read_bytes())
    for words, says in ((("videopose3d",), "has the 2D of several detectors (cpn_ft_h36m_dbb, hrnet): name one"), (("videopose3d", "--detections", "cpn"), "unknown 2D detections"), (("motionbert", "--detections", "cpn_ft_h36m_dbb"), "Known: sh"), (("motionbert", "--detections", "no.npz"), "no.npz is not there")):
        assert main(["prepare", "h36m", str(published / words[0]), *words[1:], "--out", str(published / "refused")]) == 1 and says in capsys.readouterr().err and not (published / "refused").exists()


def test_frames_keep_the_numbers_of_the_recording(grey, tmp_path):
    "Of a data set with every third frame, a protocol judges the frames of the recording that its stride divides, not those whose place in the set it divides."
    from dataclasses import replace
    from mpst_nb.data.release import prepare_h36m
    from mpst_nb.fit import evaluate_detector, store_joints
    from mpst_nb.metrics import PROTOCOLS
    store = prepare_h36m(grey, tmp_path / "store", size=32, step=3, workers=1); key = "S9-Walking-1"
    assert store.sequence(key).numbers.tolist() == list(range(0, 24, 3)) and open_store(tmp_path / "store").sequence(key).numbers.tolist() == list(range(0, 24, 3))
    assert evaluate_detector({key: store_joints(store, key)}, store, protocol=replace(PROTOCOLS["microsoft"], stride=6))[0]["n"] == 16          # 0, 6, 12 and 18 in four views; by place only 0 and 6


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    "A release whose pictures are grey: four sequences of 24 frames, which cost no drawing."
    path, config = tmp_path_factory.mktemp("grey") / "release", StudioConfig(subjects=("S1", "S9"), actions=("Walking",), trials=2, frames=24)
    for s in (poses := list(studio_poses(config))):
        write_poses(s, path)
        for c in s.cameras:
            with film(path / s.subject / "Videos" / f"{H36M_NAMES[s.subject][s.action, s.trial]}.{c.name}.mp4", c.size) as put:
                for t in range(24): put(np.full((c.size[1], c.size[0], 3), 60 + 4 * t, np.uint8))
    write_metadata(path / "metadata.xml", {s.subject: s.cameras for s in poses})
    return path


def prepare_and_strike(grey, out, strike):
    "`mpst prepare h36m` in a process group of its own; `strike(group)` is called until it says that it has struck. Exit code and what was said."
    with open(f"{out}.txt", "w+") as said:
        run = subprocess.Popen([sys.executable, "-m", "mpst_nb.cli", "prepare", "h36m", str(grey), "--out", str(out), "--workers", "2"], stdout=said, stderr=said, start_new_session=True)
        struck = False
        while run.poll() is None: struck = struck or strike(run.pid); time.sleep(.02)
        said.seek(0)
        return run.returncode, said.read()


def finished(out): return sorted(f.stem for f in (out / "annotations").glob("*.npz") if f.name[0] != ".")


def test_a_killed_preparation_goes_on(grey, tmp_path, capsys):
    from mpst_nb.cli import main
    def prepared(out): assert main(["prepare", "h36m", str(grey), "--out", str(out), "--workers", "1"]) == 0; return open_store(out), capsys.readouterr()
    whole, said = prepared(tmp_path / "whole"); assert "384 crops" in said.out and "h36m: 4 sequences on 1 core" in said.err
    assert re.findall(r"\d+/384 \[[\d:]+<[\d:]+, ", said.err), said.err                                       # the bar says how long it will take
    def strike(pid):
        if not finished(tmp_path / "killed"): return False
        os.killpg(pid, signal.SIGKILL); return True
    code, _ = prepare_and_strike(grey, tmp_path / "killed", strike); assert code == -signal.SIGKILL
    there = finished(tmp_path / "killed"); stamp = lambda k: (tmp_path / "killed/annotations" / f"{k}.npz").stat().st_mtime_ns; before = [stamp(k) for k in there]; assert 1 <= len(there) < 4
    with pytest.raises(MpstError, match=f"half prepared .{len(there)} sequences are there; of 4 it lacks {4 - len(there)}.*run `mpst prepare h36m"): open_store(tmp_path / "killed")
    again, _ = prepared(tmp_path / "killed")
    assert [stamp(k) for k in there] == before and whole.hash == again.hash and whole.keys() == again.keys()     # what was there is not made again
    for k in whole.keys(): assert (whole.crops(k) == again.crops(k)).all()
    assert sorted(f.name for f in whole.path.rglob("*")) == sorted(f.name for f in again.path.rglob("*"))      # and nothing is left lying about


def children(pid): return [int(c) for t in os.listdir(f"/proc/{pid}/task") for c in open(f"/proc/{pid}/task/{t}/children").read().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for workers in /proc")
def test_a_killed_worker_is_told(grey, tmp_path):
    "A pool of processes would wait for ever for what a killed one was doing."
    def strike(pid):
        workers = [w for c in children(pid) for w in children(c)]                                               # of the server that makes them
        if len(workers) < 2 or not list((tmp_path / "store").rglob(".*tmp*")): return False                      # one that has nothing to do yet is just replaced
        for w in workers: os.kill(w, signal.SIGKILL)
        return True
    code, said = prepare_and_strike(grey, tmp_path / "store", strike)
    assert code == 1 and "a process was killed" in said and "Run the same again" in said, said
