"""What tests/fuzz.py feeds with damaged files: for each reader of the project the small valid files it starts from, and the call that reads them."""
import json, pickle, sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpst_nb.core import folder as project_folder

FRAMES = 12


@dataclass(frozen=True)
class Reader:
    "A reader under test."
    name: str
    make: Callable            # (folder) -> writes valid files there
    read: Callable            # (folder, path of the damaged file) -> what was read
    damage: tuple             # patterns of the files that are damaged
    check: Callable = lambda got: None  # raises AssertionError for what should not have been accepted
    weight: float = 1.        # share of the cases, relative to the others


# --- cameras

def room(n=3):
    "Cameras about a room."
    from mpst_nb.camera import Camera, look_at
    places = [(2600, 700, 1700), (1500, -1900, 1900), (-3200, 2200, 2100), (-3700, -1400, 1900)][:n]
    return [Camera(f"cam{i+1}", look_at(T, (-500, 0, 900)), T, (1100, 1104), (644, 355), (-.12, .09, -.02), (6e-4, -7e-4), (1280, 720), "opencv") for i, T in enumerate(places)]


def _in_file(c):
    "K, coefficients, Rodrigues vector and translation in metres."
    import cv2
    return np.array([[c.f[0], 0, c.c[0]], [0, c.f[1], c.c[1]], [0, 0, 1]]), np.array([c.k[0], c.k[1], *c.p, c.k[2]]), cv2.Rodrigues(c.R)[0].ravel(), -(c.R @ c.T) / 1000


def toml(cameras):
    text = ""
    for c in cameras:
        K, D, r, t = _in_file(c)
        text += f'[{c.name}]\nname = "{c.name}"\nsize = [{c.size[0]}.0, {c.size[1]}.0]\nmatrix = {K.tolist()}\ndistortions = {D.tolist()}\nrotation = {r.tolist()}\ntranslation = {t.tolist()}\nfisheye = false\n\n'
    return text + '[metadata]\nadjusted = false\nerror = 0.0\n'


def storage(cameras, path):
    "An OpenCV storage in the form that the suffix says."
    import cv2
    fs = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    for c in cameras:
        K, D, r, t = _in_file(c)
        fs.startWriteStruct(c.name, cv2.FileNode_MAP)
        fs.write("image_width", c.size[0]); fs.write("image_height", c.size[1])
        for name, a in (("camera_matrix", K), ("distortion_coefficients", D.reshape(1, -1)), ("rvec", r.reshape(3, 1)), ("tvec", t.reshape(3, 1))): fs.write(name, a)
        fs.endWriteStruct()
    fs.release()


def qca(cameras):
    "Cameras as a Qualisys file."
    text = '<?xml version="1.0" encoding="ASCII"?>\n<calibration><cameras>'
    for c in cameras:
        lying, (w, h) = c.R.T @ np.diag([1, -1, -1]), c.size
        turn = " ".join(f'r{i+1}{j+1}="{float(lying[j, i])!r}"' for i in range(3) for j in range(3))
        text += (f'<camera active="1" serial="{c.name}" viewrotation="0"><fov_video left="0" top="0" right="{w-1}" bottom="{h-1}"/><transform x="{c.T[0]}" y="{c.T[1]}" z="{c.T[2]}" {turn}/>'
                 f'<intrinsic focalLengthU="{c.f[0]*64}" focalLengthV="{c.f[1]*64}" centerPointU="{c.c[0]*64}" centerPointV="{c.c[1]*64}" radialDistortion1="{c.k[0]}" radialDistortion2="{c.k[1]}" '
                 f'radialDistortion3="{c.k[2]}" tangentalDistortion1="{c.p[0]}" tangentalDistortion2="{c.p[1]}"/></camera>')
    return text + "</cameras></calibration>"


def _make_rig(d):
    from mpst_nb.data.rig import write_calibration
    write_calibration(d / "own.json", room()); (d / "room.qca.txt").write_text(qca(room()))


def _make_calibration(d):
    _make_rig(d); (d / "Calib.toml").write_text(toml(room()))
    for kind in ("yml", "xml", "json"): storage(room(), d / f"cv.{kind}")
    (d / "plain.json").write_text(json.dumps({c.name: dict(K=K.tolist(), dist=D.tolist(), R=c.R.tolist(), t=(t*1000).tolist(), size=list(c.size)) for c in room() for K, D, _, t in [_in_file(c)]}))
    one = {"54138969": dict(R=room()[0].R.tolist(), t=[[1.], [2.], [4000.]])}
    (d / "table.json").write_text(json.dumps(dict(intrinsics={"54138969": dict(calibration_matrix=_in_file(room()[0])[0].tolist(), distortion=[.1, 0, 0, 0, 0])}, extrinsics=dict(S1=one, S9=one))))
    _metadata(d / "metadata.xml")


def _metadata(path):
    from mpst_nb.data.h36m import write_metadata
    from mpst_nb.data.studio import studio_cameras
    write_metadata(path, {s: studio_cameras(s) for s in ("S5", "S9")})


def _finite(cameras):
    for c in cameras: assert all(np.isfinite(np.asarray(getattr(c, k), float)).all() for k in ("R", "T", "f", "c", "k", "p", "size")) and isinstance(c.name, str), c


def _read_rig(d, path):
    from mpst_nb.data.rig import read_calibration
    return read_calibration(path)


def _read_calibration(d, path):
    from mpst_nb.data.calibration import read_cameras
    return read_cameras(path, "S9" if path.name in ("metadata.xml", "table.json") else None)[0]


def _make_boxes(d):
    names, box, points = ("cam1", "cam2"), lambda t: [10+t, 20+t, 110+t, 220+t], lambda t: [[10.+3*j, 20.+5*j+t, 1.] for j in range(17)]
    (d / "boxes.csv").write_text("camera,frame,x0,y0,x1,y1\n" + "".join(f"{n},{t},{','.join(map(str, box(t)))}\n" for n in names for t in (0, 5, 9)) + "cam2,12,,,,\n")
    (d / "boxes.json").write_text(json.dumps(dict(boxes=[dict(camera=n, frame=t, box=box(t), keypoints=points(t), score=.9) for n in names for t in (0, 5)])))
    images = [dict(id=2*t+i, file_name=f"{n}/{t:06d}.jpg", camera=n, frame=t) for i, n in enumerate(names) for t in (0, 5)]
    found = [dict(id=i, image_id=im["id"], category_id=1, keypoints=sum(points(0), []), bbox=[10, 20, 100, 200], score=.8) for i, im in enumerate(images)]
    (d / "coco.json").write_text(json.dumps(dict(images=images, annotations=found, categories=[dict(id=1, name="person")])))
    frames = [dict(frame_id=t, instances=[dict(keypoints=[p[:2] for p in points(t)], keypoint_scores=[.9]*17, bbox=[box(t)], bbox_score=.9)]) for t in (0, 1)]
    (d / "cam1.json").write_text(json.dumps(dict(meta_info=dict(dataset_name="coco"), instance_info=frames)))
    for n in ("open_cam1",): (d / n).mkdir(); [(d / n / f"x_{t:012d}_keypoints.json").write_text(json.dumps(dict(people=[dict(pose_keypoints_2d=sum(points(t), []))]))) for t in (0, 1)]


def _read_boxes(d, path):
    from mpst_nb.people import boxes_of_people, read_people
    path = path.parent if path.parent.name.startswith("open") else path
    names = ["cam1"] if "cam1" in path.name else ["cam1", "cam2"]
    people = read_people(path, names)
    return people, boxes_of_people(people, np.tile(np.arange(20), (len(names), 1)))


def _real_boxes(got):
    assert not np.isinf(got[1].values).any() and got[1].at(7).shape == (len(got[0].names), 4), got


# --- Human3.6M

def poses(subjects=("S5", "S9")):
    "A few frames of the studio, as sequences."
    from mpst_nb.data.h36m import make_sequence
    from mpst_nb.data.motion import Motion
    from mpst_nb.data.studio import studio_cameras
    for s in subjects:
        X, cams = Motion(s, "Walking", 1)(np.arange(FRAMES) / 50).joints * 1000, studio_cameras(s)
        yield make_sequence("studio", s, "Walking", 1, X, cams, np.stack([c.project(X) for c in cams]))


def _make_h36m_cameras(d):
    from mpst_nb.data.h36m import write_mmpose, write_videopose3d
    from mpst_nb.data.studio import studio_cameras
    _metadata(d / "metadata.xml"); write_videopose3d(list(poses()), d / "v"); write_mmpose(list(poses()), d / "m")
    (d / "v/h36m_dataset.py").rename(d / "h36m_dataset.py"); (d / "m/annotation_body3d/cameras.pkl").rename(d / "cameras.pkl")
    col = lambda a: np.asarray(a)[:, None]
    table = {(int(s[1:]), i+1): (c.R, col(c.T), col(c.f), col(c.c), col(c.k), col(c.p), c.name) for s in ("S5", "S9") for i, c in enumerate(studio_cameras(s))}
    (d / "camera_data.pkl").write_bytes(pickle.dumps(table))


def _read_h36m_cameras(d, path):
    from mpst_nb.data.h36m import read_cameras
    return [c for four in read_cameras(path).values() for c in four]


def _write_microsoft(sequences, d):
    from mpst_nb.data.h36m import H36M_ACTIONS
    rows = []
    for s, v, c, i, f in ((s, v, c, i, f) for s in sequences for v, c in enumerate(s.cameras) for i, f in enumerate(s.frames)):
        cam = dict(R=c.R, T=c.T[:, None], fx=c.f[0], fy=c.f[1], cx=c.c[0], cy=c.c[1], k=c.k[:, None], p=c.p[:, None])
        rows.append(dict(image="x", joints_2d=s.both()[v, i], joints_3d=s.joints3d[i], joints_3d_camera=c.to_camera(s.joints3d[i]), joints_vis=np.ones((17, 3)), video_id=0, image_id=int(f)+1,
            subject=int(s.subject[1:]), action=H36M_ACTIONS.index(s.action)+2, subaction=s.trial, camera_id=v, camera=cam))
    d.mkdir(parents=True, exist_ok=True); (d / "h36m_train.pkl").write_bytes(pickle.dumps(rows))


def _write_motionbert(sequences, d):
    from mpst_nb.data.h36m import H36M_ACTIONS
    halves = {h: dict(joint_2d=[], confidence=[], joint3d_image=[], camera_name=[], source=[], action=[]) for h in ("train", "test")}
    for s, v, c in ((s, v, c) for s in sequences for v, c in enumerate(s.cameras)):
        h, z = halves["test" if s.subject in ("S9", "S11") else "train"], c.to_camera(s.joints3d)[..., 2:]
        h["joint3d_image"].append(np.concatenate([c.pinhole().project(s.joints3d), z-z[:, :1]], -1)); h["joint_2d"].append(s.both()[v]); h["confidence"].append(np.ones((len(z), 17, 1)))
        source = f"s_{int(s.subject[1:]):02d}_act_{H36M_ACTIONS.index(s.action)+2:02d}_subact_{s.trial:02d}_ca_{v+1:02d}"
        for k, x in dict(camera_name=c.name, action=s.action, source=source).items(): h[k] += [x]*len(z)
    for h in halves.values():
        for k in ("joint_2d", "confidence", "joint3d_image"): h[k] = np.concatenate(h[k])
    d.mkdir(parents=True, exist_ok=True); (d / "h36m_sh_conf_cam_source_final.pkl").write_bytes(pickle.dumps(halves)); _metadata(d / "metadata.xml")


def _write_fetch(sequences, d):
    import h5py
    from mpst_nb.data.h36m import _to32
    for s in sequences:
        to = d / s.subject / f"{s.action}-{s.trial}"; to.mkdir(parents=True)
        with h5py.File(to / "annot.h5", "w") as f:
            f["pose/2d"] = np.concatenate([_to32(x) for x in s.both()]); f["pose/3d"] = np.concatenate([_to32(c.to_camera(s.joints3d)) for c in s.cameras])
            f["frame"] = np.tile(s.frames+1, 4); f["camera"] = np.repeat([int(c.name) for c in s.cameras], len(s.frames))
    _metadata(d / "metadata.xml")


def _h36m(form, damage, weight=1.):
    def make(d):
        from mpst_nb.data import h36m
        write = dict(official=h36m.write_official, videopose3d=h36m.write_videopose3d, karfly=h36m.write_karfly, mmpose=h36m.write_mmpose, microsoft=_write_microsoft, motionbert=_write_motionbert)
        write.get(form, _write_fetch)(list(poses()), d)
    def read(d, path):
        from mpst_nb.data.h36m import open_h36m
        return open_h36m(d).poses()
    def check(got):
        for s in got: assert np.isfinite(s.joints3d).all() and s.joints3d.shape[1:] == (17, 3); _finite(s.cameras)
    return Reader(f"h36m {form}", make, read, damage, check, weight)


# --- joints of ours and of other programs

def _make_prediction(d):
    from mpst_nb.camera import triangulate
    from mpst_nb.data.files import write_files
    from mpst_nb.predict import JointsWriter, write_predictions
    from mpst_nb.skeleton import JOINTS
    s = next(poses(("S9",)))
    with JointsWriter(d, [c.name for c in s.cameras]) as w: w.add2d(0, s.joints2d); w.add3d(0, *triangulate(s.cameras, s.joints2d))
    videos = [dict(camera=c.name, file=f"{c.name}.mp4", size=list(c.size)) for c in s.cameras]
    write_predictions(d, dict(frames=FRAMES, fps=12.5, joints=list(JOINTS), space="world", videos=videos))
    write_files(d, "trc,c3d,npz,json")


def _joints(name, file):
    def read(d, path):
        from mpst_nb.data import files
        return getattr(files, name)(d if name == "read_results" else path)
    def check(rec): assert rec.joints3d is None or rec.joints3d.shape[1:] == (len(rec.joints), 3)
    return Reader(f"files.{name}", _make_prediction, read, file, check)


# --- records, data sets, networks

def _make_records(d):
    import os
    from mpst_nb.report import fake_runs
    old = os.environ.get("MPST_RUNS"); os.environ["MPST_RUNS"] = str(d / "runs")
    try: fake_runs("quick", skip=("vit_s", "vit_b", "hrnet_32", "hrnet_48"), frames=(32,))
    finally: os.environ.pop("MPST_RUNS") if old is None else os.environ.update(MPST_RUNS=old)
    (d / "data").mkdir(); (d / "data/paper").symlink_to(project_folder("data") / "paper")


def _read_records(what):
    def read(d, path):
        import os
        from mpst_nb import report
        os.environ.update(MPST_RUNS=str(d / "runs"), MPST_DATA=str(d / "data"))
        try:
            runs = report.Runs("quick")
            if what == "tables": return report.report_tables(runs), report._laid_out(report.decide_claims, runs)
            return runs
        finally:
            for k in ("MPST_RUNS", "MPST_DATA"): os.environ.pop(k)
    return read


def _make_store(d):
    from mpst_nb.data.studio import StudioConfig, prepare_studio
    prepare_studio(StudioConfig(subjects=("S1", "S9"), actions=("Walking",), trials=1, frames=4, fps=12.5, size=32), d / "store", workers=1)


def _make_verified(d):
    from mpst_nb.data.clips import open_store
    from mpst_nb.fit import evaluate_detector
    from mpst_nb.verify import to_crop
    _make_store(d); store, to = open_store(d / "store"), d / "run"; to.mkdir()
    joints = {k: store.sequence(k).joints2d*1.0 for k in store.keys(split="test")}
    from mpst_nb.camera import apply_affine, invert_affine
    joints = {k: apply_affine(invert_affine(store.sequence(k).crop), xy) for k, xy in joints.items()}
    metrics, rows = evaluate_detector(to_crop(joints, store), store, 1, protocol="studio")
    rows.to_parquet(to / "rows.parquet"); np.savez_compressed(to / "predictions.npz", **joints)
    record = dict(notebook="train", profile="quick", parameters=dict(profile="quick", method="baseline", seed=0), metrics={k: v for k, v in metrics.items() if isinstance(v, (int, float))}, protocol="studio", seed=0,
        data=dict(path="none", hash=store.hash, source="studio", name="store"), started="2026-01-01T00:00:00", evaluated_every=1, git="none", host={}, versions={}, seconds=1.)
    from mpst_nb.core import write_json
    write_json(to / "result.json", record)


def _read_verified(d, path):
    from mpst_nb.verify import verify_run
    return verify_run(d / "run", (d / "store",))


def _read_store(d, path):
    from mpst_nb.data.clips import open_store
    store = open_store(d / "store")
    return [store.sequence(k) for k in store.keys()]


def small_detector(method="mpst"):
    from mpst_nb.models.detector import create_model
    return create_model(method, "quick", size=32, patch=4, dim=8, depths=(1, 1), heads=(1, 1), relation_depth=1, relation_heads=1, frames=2)


def _make_network(d):
    import torch
    small_detector().save_pretrained(d / "net"); torch.save(dict(small_detector().state_dict()), d / "net.pth")


def _read_network(d, path):
    from mpst_nb.predict import load_detector
    return load_detector(d / "net")[0]


def _read_weights(d, path):
    from mpst_nb.models.detector import read_weights
    return read_weights(path)


def _make_lifter(d):
    from dataclasses import asdict
    from safetensors.torch import save_file
    from mpst_nb.models.lifter import LifterConfig, PoseFormer
    config = LifterConfig(frames=3, dim=4, depth=1, heads=1)
    save_file(PoseFormer(config).state_dict(), d / "model.safetensors"); (d / "config.json").write_text(json.dumps(asdict(config)))


def _read_lifter(d, path):
    from mpst_nb.predict import load_lifter
    return load_lifter(d)


def _training(d, steps, stop=None):
    "A training of a few weights in the folder; with `stop`, its first steps only, as one that was killed left it."
    import torch
    from mpst_nb.fit import FitConfig, fit
    class Line(torch.nn.Module):
        def __init__(self): super().__init__(); self.w = torch.nn.Linear(2, 1)
        def loss(self, batch): return dict(loss=self.w(batch["frames"].flatten(0, 2)).square().mean())
    torch.manual_seed(0); g = torch.Generator().manual_seed(0)
    x, asked = torch.randn(1, 1, 4, 2, generator=g), []
    def draw(step):
        asked.append(step)
        if stop is not None and step >= stop: raise InterruptedError("killed")
        return dict(frames=x)
    fit(Line(), draw, FitConfig(images=4*steps, batch=4, watch=1, keep_every=0., loaders=1), steps, folder=d, device="cpu", progress=False)


def _make_checkpoint(d):
    try: _training(d, 6, stop=4)
    except InterruptedError: pass


def _read_checkpoint(d, path): _training(d, 6)


def _checkpoint(d):
    from mpst_nb.checkpoint import Checkpoint
    return Checkpoint(d, dict(network=dict(dim=4), seed=0, data="none"))


def _make_checkpoints(d):
    import torch
    for step in (1, 2): _checkpoint(d).keep(dict(model=dict(w=torch.ones(3, 2)*step), optimizer=dict(state={0: dict(step=torch.tensor(1.))}, param_groups=[dict(lr=.1, params=[0])]), at=dict(step=step, curve=[dict(loss=.5)], best=None)))


def _read_checkpoints(d, path): return _checkpoint(d).resume()


def _make_parameters(d):
    (d / "words.yaml").write_text("profile: quick\nmethod: mpst\nframes: 32\nseed: 0\nrelations: null\nkeep: 0.5\n")
    (d / "words.txt").write_text("profile=quick\nmethod=mpst\nframes=32\nkeep=.5\nseed=0\n")


def _read_parameters(d, path):
    import os
    from mpst_nb.cli import run_output
    from mpst_nb.core import profile
    os.environ["MPST_RUNS"] = str(d / "runs")
    notebook = str(project_folder("nbs") / "train.ipynb")
    try:
        if path.suffix == ".yaml":
            if (out := run_output([notebook, "-f", str(path)])) is not None: assert out.resolve().is_relative_to((d / "runs").resolve()), out
            return out
        pairs = [l.partition("=")[::2] for l in path.read_text(errors="surrogateescape").splitlines()]
        out = run_output([notebook, *(w for k, v in pairs for w in ("-p", k, v))])
        profile(dict(pairs).get("profile", "quick"))
        if out is not None: assert out.resolve().is_relative_to((d / "runs").resolve()), out
        return out
    finally: os.environ.pop("MPST_RUNS")


READERS = (
    Reader("rig.read_calibration", _make_rig, _read_rig, ("own.json", "room.qca.txt"), _finite, 1.5),
    Reader("calibration.read_cameras", _make_calibration, _read_calibration, ("*.*",), _finite, 4.),
    Reader("people.read_people", _make_boxes, _read_boxes, ("*.csv", "*.json", "open_*/*.json"), _real_boxes, 3.),
    Reader("h36m.read_cameras", _make_h36m_cameras, _read_h36m_cameras, ("metadata.xml", "*.pkl", "h36m_dataset.py"), _finite, 2.),
    _h36m("official", ("S*/MyPoseFeatures/*/*.cdf",), .7), _h36m("videopose3d", ("*.npz", "h36m_dataset.py")), _h36m("karfly", ("*.npy",)), _h36m("mmpose", ("annotation_body3d/*/*.npz", "annotation_body3d/cameras.pkl"), .4),
    _h36m("microsoft", ("*.pkl",), .6), _h36m("motionbert", ("*.pkl",), .3), _h36m("h36m-fetch", ("S*/*/annot.h5",), .6),
    _joints("read_results", ("predictions.json", "joints?d.parquet")), _joints("read_trc", ("*.trc",)), _joints("read_c3d", ("*.c3d",)), _joints("read_npz", ("joints.npz",)), _joints("read_joints_json", ("joints.json",)),
    Reader("report.Runs", _make_records, _read_records("runs"), ("runs/quick/*/*/*",), weight=.3), Reader("report tables, claims", _make_records, _read_records("tables"), ("runs/quick/*/*/result.json",), weight=.04),
    Reader("verify_run", _make_verified, _read_verified, ("run/*",), weight=.2), Reader("clips.open_store", _make_store, _read_store, ("store/*.*", "store/annotations/*")),
    Reader("predict.load_detector", _make_network, _read_network, ("net/*.json", "net/*.safetensors"), weight=.7), Reader("detector.read_weights", _make_network, _read_weights, ("net/*.safetensors", "net.pth")),
    Reader("predict.load_lifter", _make_lifter, _read_lifter, ("config.json", "model.safetensors"), weight=.7), Reader("fit checkpoint", _make_checkpoint, _read_checkpoint, ("*.pt",), weight=.05),
    Reader("checkpoint.Checkpoint", _make_checkpoints, _read_checkpoints, ("*.pt",)), Reader("profiles, parameters", _make_parameters, _read_parameters, ("words.*",), weight=1.),
)
