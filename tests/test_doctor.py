"`mpst doctor` as a shell sees it: exit codes, one screen, strict JSON, no traceback, and memory that does not grow with the recording."
import json, shutil, subprocess, sys

import cv2
import numpy as np
import pytest

from mpst_nb.camera import Camera, look_at
from mpst_nb.data.rig import VideoWriter, write_calibration

N, FPS = 90, 25


def doctor(*args): return subprocess.run([sys.executable, "-m", "mpst_nb.cli", "doctor", *map(str, args)], capture_output=True, text=True, timeout=120, env=None)


def cameras():
    at = [(3600, 1500, 1500), (1200, -3700, 1900), (-3300, -2100, 1300), (-2500, 3300, 2100)]
    return [Camera(f"cam{i + 1}", look_at(T, (0, 0, 950)), T, 190.0, (119, 81), (-0.05, 0.03, 0), (4e-4, -3e-4), (240, 160), "opencv") for i, T in enumerate(at)]


def juggler(t):
    "Five balls (5, 3), mm, that each go their own way; no period within the recording."
    s = t / FPS
    return np.array([[500 * np.sin(w * s + i), 400 * np.cos(0.8 * w * s + 2 * i + 0.6 * s * s), 500 + 350 * i * 0.7 + 250 * np.sin(1.3 * w * s + 0.5 * s * s)] for i, w in enumerate((1.9, 2.6, 3.1, 2.2, 3.7))])


def film(path, camera, first=0, frames=N):
    room = cv2.resize(np.random.default_rng(len(camera.name) + int(camera.name[-1])).integers(60, 110, (8, 12, 3), dtype=np.uint8), camera.size)
    with VideoWriter(path, FPS) as w:
        for t in range(first, first + frames):
            image = room.copy()
            for u, v in camera.project(juggler(t)): cv2.circle(image, (round(u * 16), round(v * 16)), 5 * 16, (240, 240, 230), -1, cv2.LINE_AA, 4)
            w.add(image)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    d = tmp_path_factory.mktemp("doctor") / "whole"
    d.mkdir()
    for c in cameras(): film(d / f"{c.name}.mp4", c)
    write_calibration(d / "room.json", cameras())
    return d


@pytest.fixture
def copy(whole, tmp_path): return shutil.copytree(whole, tmp_path / "copy")


def test_nothing_is_said_of_a_whole_recording(whole):
    done = doctor(whole)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no errors, no warnings, no notes" in done.stdout and done.stderr == ""
    assert "start together" in done.stdout and "calibration fits" in done.stdout


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 2, 0, 3, 1)], ids=["as listed", "shuffled"])
def test_files_in_any_order_are_one_recording(whole, order):
    files = [*sorted(whole.glob("*.mp4")), whole / "room.json"]
    told = json.loads(doctor(*(files[i] for i in order), "--json").stdout)
    assert told["exit_code"] == 0 and len(told["cases"]) == 1
    assert {r["camera"]: r["video"] for r in told["cases"][0]["facts"]} == {f"cam{i}": f"cam{i}.mp4" for i in (1, 2, 3, 4)}


def late(d): film(d / "cam2.mp4", cameras()[1], first=9)
def swapped(d): a, b, *rest = cameras(); write_calibration(d / "room.json", [Camera(**{**b.to_dict(), "name": "cam1"}), Camera(**{**a.to_dict(), "name": "cam2"}), *rest])
def cut(d): f = d / "cam3.mp4"; f.write_bytes(f.read_bytes()[:-1500])
def short(d): film(d / "cam4.mp4", cameras()[3], frames=70)
def less(d): (d / "cam4.mp4").unlink()
def metres(d): write_calibration(d / "room.json", [Camera(**{**c.to_dict(), "T": c.T / 1000}) for c in cameras()])
def noise(d): (d / "cam1.mp4").write_bytes(np.random.default_rng(0).bytes(20000))


@pytest.mark.parametrize("spoil,code,words", [
    (late, 2, ["cam2 9 frames (0.36 s) after the others", "trim=start_frame=9"]),
    (swapped, 2, ["cam1 was taken by cam2"]),
    (cut, 2, ["cam3.mp4", "cut off"]),
    (noise, 2, ["cam1.mp4", "cannot be read"]),
    (metres, 2, ["metres"]),
    (short, 1, ["cam4.mp4 70", "--frames 70"]),
    (less, 1, ["no video of it"]),
], ids=lambda x: getattr(x, "__name__", None))
def test_a_fault_is_named_with_its_remedy(copy, spoil, code, words):
    spoil(copy)
    done = doctor(copy)
    assert done.returncode == code, done.stdout + done.stderr
    text = " ".join(done.stdout.split())
    for w in words: assert w in text, done.stdout
    assert "->" in done.stdout and "Traceback" not in done.stderr
    assert max(len(line) for line in done.stdout.splitlines() if "ffmpeg" not in line and str(copy) not in line) <= 110


def test_json_is_strict_and_whole(copy):
    late(copy); cut(copy)
    done = doctor(copy, "--json")
    told = json.loads(done.stdout, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    [case] = told["cases"]
    assert done.returncode == told["exit_code"] == 2 and case["kind"] == "recording" and case["severity"] == "error"
    assert case["numbers"]["offsets"] == {"cam1": 0, "cam2": -9, "cam4": 0}
    assert all(r["remedy"] for r in case["remarks"] if r["severity"] != "note")


def test_quick_looks_at_the_beginning_only(whole, tmp_path):
    long = tmp_path / "long"; long.mkdir()
    for c in cameras()[:2]: film(long / f"{c.name}.mp4", c, frames=300)
    told = json.loads(doctor(long, "--quick", "--json").stdout)
    assert any("first 250 frames" in r["text"] for r in told["cases"][0]["remarks"])


@pytest.mark.parametrize("name", ["nowhere.mp4", "empty", "notes.md"])
def test_what_is_not_known_is_said(tmp_path, name):
    (tmp_path / "empty").mkdir(); (tmp_path / "notes.md").write_text("Dear all,")
    done = doctor(tmp_path / name)
    assert done.returncode == 2 and name in done.stdout and "->" in done.stdout and "Traceback" not in done.stderr


def test_a_data_set_with_a_hole(tiny_store, tmp_path):
    assert doctor(tiny_store.path).returncode == 0
    d = shutil.copytree(tiny_store.path, tmp_path / "store")
    victim = sorted((d / "crops").glob("S9-*.mp4"))[0]; victim.write_bytes(victim.read_bytes()[:600])
    done = doctor(d)
    assert done.returncode == 2 and "S9-" in done.stdout and "->" in done.stdout, done.stdout


def test_what_lies_beside_a_recording_is_no_calibration(copy):
    "A detector's joints, settings, and the same rig once more in another form: a note each, and the pictures are looked at."
    (copy / "keypoints.json").write_text(json.dumps({"version": 1.3, "people": [{"pose_keypoints_2d": [1.0, 2.0, 0.9] * 25}]}))
    (copy / "Config.toml").write_text('[project]\nframe_rate = "auto"\n[calibration.calculate.intrinsics]\nintrinsics_square_size = 60\n')
    (copy / "rig.toml").write_text("".join(f"[{c.name}]\nsize = {list(c.size)}\nmatrix = {c.K.tolist()}\ndistortions = {[*c.k[:2].tolist(), *c.p.tolist()]}\nrotation = {cv2.Rodrigues(c.R)[0].ravel().tolist()}\n"
                                           f"translation = {(-c.R @ c.T / 1000).tolist()}\n" for c in cameras()))
    done = doctor(copy); text = " ".join(done.stdout.split())
    assert done.returncode == 0 and "calibration fits" in text and "PosixPath" not in text, done.stdout + done.stderr
    for said in ("Config.toml, keypoints.json hold no camera", "rig.toml holds the cameras of room.json once more: room.json was taken", "name it"): assert said in text, done.stdout
    done = doctor(copy, copy / "rig.toml"); assert done.returncode == 0 and "room.json was left aside, as rig.toml was named" in " ".join(done.stdout.split()), done.stdout
    (copy / "rig.toml").write_text((copy / "rig.toml").read_text().replace("matrix = [[190.0", "matrix = [[-190.0", 1))
    done = doctor(copy); assert done.returncode == 2 and "rig.toml" in done.stdout, done.stdout                        # what holds cameras and is broken is not passed over


def test_memory_is_flat(tmp_path):
    peaks = []
    for n in (1200, 6000):
        d = tmp_path / str(n); d.mkdir()
        for v in (1, 2):
            with VideoWriter(d / f"cam{v}.mp4", FPS) as w:
                for t in range(n): w.add(cv2.circle(np.full((120, 160, 3), 80, np.uint8), (20 + (7 * t * v) % 120, 60), 10, (230, 230, 230), -1))
        code = f"import resource; from mpst_nb.data.doctor import doctor; doctor([{str(d)!r}]); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        peaks.append(int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) / 1024)
    assert peaks[1] < peaks[0] + 40, f"peaks of {peaks} MB for 1200 and 6000 frames"
