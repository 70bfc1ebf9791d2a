"""Own cameras that do not run in step, from the shell's words to the joints: starts, rates, lost frames, hanging pictures, lengths, turned videos. The 2D joints are given (`--keypoints`), exact and counted in each
video's own frames, so that nothing but the way through `mpst predict` can put a 3D joint out of its place; what a hanging camera's detector finds is in the files too, and must not be believed."""
import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pandas as pd
import pytest

from mpst_nb.camera import Camera, look_at
from mpst_nb.cli import main
from mpst_nb.data.rig import write_calibration
from mpst_nb.skeleton import JOINTS, example_pose

N, FPS = 80, 25


def cameras():
    at = [(3600, 1500, 1500), (1200, -3700, 1900), (-3300, -2100, 1300), (-2500, 3300, 2100)]
    return [Camera(f"cam{i + 1}", look_at(T, (0, 0, 950)), T, 190.0, (119, 81), (-0.05, 0.03, 0), (4e-4, -3e-4), (240, 160), "opencv") for i, T in enumerate(at)]


def pose(s):
    "(17, 3) mm at a time, s: at up to 0.5 m/s, and no moment like another."
    return example_pose() + [350 * np.sin(1.1 * s + 0.3 * s * s), 300 * np.cos(0.8 * s + 0.2 * s * s), 30 * np.sin(5 * s)]


def balls(s): return np.array([pose(s)[0] + [500 * np.sin(w * s + i), 400 * np.cos(0.8 * w * s + 2 * i + 0.6 * s * s), 350 * i * 0.7 - 300 + 250 * np.sin(1.3 * w * s + 0.5 * s * s)] for i, w in enumerate((1.9, 2.6, 3.1, 2.2, 3.7))])


def film(folder, camera, times, stamps=None, turned=False, black=(), hangs=(), fps=FPS):
    "A video with a frame at each of `times`, s, stamped so unless told otherwise, and the 2D joints of each of its frames as mmpose writes them. In `hangs` the picture before is shown again, and found again."
    stamps, found, shown = np.asarray(times if stamps is None else stamps, float), [], times[0]
    room = cv2.resize(np.random.default_rng(int(camera.name[-1])).integers(60, 110, (8, 12, 3), dtype=np.uint8), camera.size)
    with av.open(str(folder / f"{camera.name}.mp4"), "w", format="mp4") as f:
        base = Fraction(1, 6000)
        s = f.add_stream("libx264", rate=fps, options=dict(crf="18", preset="veryfast"))
        s.width, s.height = camera.size[::-1] if turned else camera.size
        s.pix_fmt, s.time_base, s.codec_context.time_base = "yuv420p", base, base
        if turned: s.set_display_rotation(90)
        for i, t in enumerate(times):
            shown = shown if i in hangs else t
            image = room.copy()
            for u, v in camera.project(balls(shown)): cv2.circle(image, (round(u * 16), round(v * 16)), 5 * 16, (240, 240, 230), -1, cv2.LINE_AA, 4)
            xy = camera.project(pose(shown))
            found.append(dict(frame_id=i, instances=[dict(keypoints=xy.tolist(), keypoint_scores=[0.9] * 17)]))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(image, -1) if turned else image) * (i not in black), format="rgb24")
            frame.pts, frame.time_base = round((stamps[i] - stamps[0]) / base), base
            f.mux(s.encode(frame))
        f.mux(s.encode())
    (folder / f"{camera.name}.json").write_text(json.dumps(found))


def even(n=N, fps=FPS, start=0.0): return start + np.arange(n) / fps


JITTER = np.random.default_rng(5).uniform(-0.3, 0.3, N) / FPS * (np.arange(N) > 0)
GAP = [t for t in range(N) if not 30 <= t < 40]
# what is unlike: (camera -> its film, words for `mpst predict`, frames a second, seconds at frame 0, frames, camera -> moments it is out, mm that a joint may be off)
CASES = {
    "in step": ({}, [], 25, 0, N, {}, 0.5),
    "begun 3 frames early": ({2: dict(times=even(start=-3 / 25))}, ["--offsets", 0, 3, 0, 0], 25, 0, N, {2: range(77, 80)}, 0.5),
    "begun early, in seconds": ({2: dict(times=even(start=-0.12))}, ["--offsets", "0s", "0.12s", 0, 0], 25, 0, N, {2: range(77, 80)}, 0.5),
    "begun 2 frames late": ({3: dict(times=even(start=2 / 25))}, ["--offsets", 0, 0, -2, 0], 25, 0, N, {3: range(2)}, 0.5),
    "begun 9 frames early, found": ({4: dict(times=even(start=-9 / 25))}, ["--offsets", "auto"], 25, 0, N, {4: range(71, 80)}, 0.5),
    "50 and 30 a second": ({2: dict(times=even(2 * N, 50), fps=50), 3: dict(times=even(96, 30), fps=30)}, [], 25, 0, N, {}, 9),
    "a varying rate": ({4: dict(times=even() + JITTER)}, [], 25, 0, N, {}, 9),
    "lost frames": ({2: dict(times=even()[GAP])}, [], 25, 0, N, {2: range(30, 40)}, 0.5),
    "black for a while": ({1: dict(times=even(), black=range(50, 62))}, [], 25, 0, N, {1: range(50, 62)}, 0.5),
    "hanging for a while": ({3: dict(times=even(), hangs=range(20, 31))}, [], 25, 0, N, {3: range(20, 31)}, 0.5),
    "ends early": ({4: dict(times=even(44))}, [], 25, 0, N, {4: range(44, N)}, 0.5),
    "stored lying": ({3: dict(times=even(), turned=True)}, [], 25, 0, N, {}, 0.5),
    "one trigger, another rate in a file": ({2: dict(times=even(), stamps=even(fps=30), fps=30)}, ["--in-step"], 25, 0, N, {}, 0.5),
    # of the 50 a second every other frame is used: the first repeated one shows what the unused one before it did, 20 ms old, and nothing tells that; hence 30 mm
    "all at once": ({1: dict(times=even(2 * N, 50), fps=50, hangs=range(100, 120)), 2: dict(times=even()[GAP], turned=True), 3: dict(times=even(60, start=4 / 25))}, ["--offsets", 0, 0, "-0.16s", 0], 25, 0, N,
                    {1: range(51, 60), 2: range(30, 40), 3: [*range(4), *range(64, N)]}, 30),
}


@pytest.mark.parametrize("name", CASES)
def test_every_joint_is_of_its_moment(tmp_path, name):
    films, words, fps, begin, frames, out, mm = CASES[name]
    for i, c in enumerate(cameras(), 1): film(tmp_path, c, **({"times": even()} | films.get(i, {})))
    write_calibration(tmp_path / "rig.json", cameras())
    paths = [tmp_path / f"cam{i}.mp4" for i in (1, 2, 3, 4)]
    assert main([str(w) for w in ["predict", *paths, "--calibration", tmp_path / "rig.json", "--keypoints", *(p.with_suffix(".json") for p in paths), "--skeleton", "h36m17", "--out", tmp_path / "out", *words]]) == 0
    d3, d2 = (pd.read_parquet(tmp_path / "out" / f"joints{k}d.parquet") for k in (3, 2))
    X, views = d3[["x", "y", "z"]].to_numpy().reshape(-1, 17, 3), d3.views.to_numpy().reshape(-1, 17)
    there = np.ones((frames, 4), bool)
    for c, moments in out.items(): there[list(moments), c - 1] = False
    assert len(X) == frames
    truth = np.stack([pose(begin + t / fps) for t in range(frames)])
    seen = there.sum(1) > 1
    assert np.isnan(X[~seen]).all() and (views == there.sum(1)[:, None] * seen[:, None]).all(), (name, np.unique(np.flatnonzero((views != there.sum(1)[:, None]).any(1))))
    assert np.linalg.norm(X - truth, axis=-1)[seen].max() < mm, np.linalg.norm(X - truth, axis=-1)[seen].max(1)
    found = d2.x.notna().to_numpy().reshape(frames, 4, 17)
    assert (found == there[..., None]).all()                        # out in 2D too, and for no other moment
    about = json.loads((tmp_path / "out" / "predictions.json").read_text())
    told = {int(v["camera"][-1]): {t for r in v["out"] for t in range(r["first"], r["last"] + 1)} for v in about["videos"]}
    assert told == {c: set(out.get(c, ())) for c in (1, 2, 3, 4)} and about["fps"] == fps
    if name == "hanging for a while": assert about["videos"][2]["out"] == [dict(why="frozen", first=20, last=30)] and any("repeats its last picture" in n for n in about["notes"])
    if name == "stored lying": assert about["videos"][2]["turned"] == 90
    if "found" in name: assert any("found from what moves: cam1.mp4 +0, cam2.mp4 +0, cam3.mp4 +0, cam4.mp4 +9" in n for n in about["notes"]), about["notes"]


def test_the_truth_would_show_a_step_too_few(tmp_path):
    "The check is worth something: with the start left unsaid, the same recording is off by centimetres."
    for i, c in enumerate(cameras(), 1): film(tmp_path, c, even(start=-3 / 25) if i == 2 else even())
    write_calibration(tmp_path / "rig.json", cameras())
    paths = [tmp_path / f"cam{i}.mp4" for i in (1, 2, 3, 4)]
    assert main([str(w) for w in ["predict", *paths, "--calibration", tmp_path / "rig.json", "--keypoints", *(p.with_suffix(".json") for p in paths), "--skeleton", "h36m17", "--out", tmp_path / "out"]]) == 0
    X = pd.read_parquet(tmp_path / "out" / "joints3d.parquet")[["x", "y", "z"]].to_numpy().reshape(-1, 17, 3)
    assert np.linalg.norm(X - np.stack([pose(t / FPS) for t in range(N)]), axis=-1).max() > 15


def crowd(folder, rng):
    "Two people who walk past each other a quarter of a metre apart, found in each picture in any order, now and then only one of them; and videos of the room. Returns where they are, (t, 17, 3) each."
    ways = [np.stack([example_pose() + [-1000 + 25 * t, y, 0] if sign > 0 else example_pose() + [1000 - 25 * t, y, 0] for t in range(N)]) for sign, y in ((1, 0), (-1, 250))]
    for c in cameras():
        film(folder, c, even())
        found = [[dict(keypoints=(c.project(w[t]) + rng.normal(0, 0.2, (17, 2))).tolist(), keypoint_scores=[0.9] * 17) for w in ways if rng.random() > 0.1] for t in range(N)]
        for f in found: rng.shuffle(f)
        (folder / f"{c.name}.json").write_text(json.dumps([dict(frame_id=t, instances=f) for t, f in enumerate(found)]))
    return ways


@pytest.mark.parametrize("who,words", [(0, ["--person", "-1000,100"]), (1, ["--person", "cam2:{u},{v}"]), (None, [])], ids=["by place", "by pixel", "whom the views agree on"])
def test_one_of_several_is_followed_through_all_views(tmp_path, who, words):
    ways = crowd(tmp_path, np.random.default_rng(3))
    write_calibration(tmp_path / "rig.json", cameras())
    u, v = cameras()[1].project(ways[1][0].mean(0)).round(1)
    paths = [tmp_path / f"cam{i}.mp4" for i in (1, 2, 3, 4)]
    words = [w.format(u=u, v=v) for w in words]
    assert main([str(w) for w in ["predict", *paths, "--calibration", tmp_path / "rig.json", "--keypoints", *(p.with_suffix(".json") for p in paths), "--skeleton", "h36m17", "--out", tmp_path / "out", *words]]) == 0
    X = pd.read_parquet(tmp_path / "out" / "joints3d.parquet")[["x", "y", "z"]].to_numpy().reshape(-1, 17, 3)
    off = [np.linalg.norm(X - w, axis=-1).max(1) for w in ways]
    mine = int(np.nanmedian(off[0]) > np.nanmedian(off[1])) if who is None else who
    assert np.nanmax(off[mine]) < 60 and np.isfinite(off[mine]).mean() > 0.95, (np.nanmax(off[mine]), np.isfinite(off[mine]).mean())
    about = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert about["box"]["how"] == "file, one of several followed" and ("--person" in about["box"]["assumption"]) == bool(words)


def test_a_person_who_is_not_there_is_an_error_that_says_who_is(tmp_path, capsys):
    crowd(tmp_path, np.random.default_rng(3)); write_calibration(tmp_path / "rig.json", cameras())
    paths = [tmp_path / f"cam{i}.mp4" for i in (1, 2, 3, 4)]
    assert main([str(w) for w in ["predict", *paths, "--calibration", tmp_path / "rig.json", "--keypoints", *(p.with_suffix(".json") for p in paths), "--skeleton", "h36m17", "--out", tmp_path / "out", "--person", "0,4000"]]) == 1
    said = capsys.readouterr().err
    assert "nobody is there" in said and "in the world at about" in said and not (tmp_path / "out").exists(), said
