"""Kill work at random moments with SIGKILL, start it again until it ends, and compare what it leaves, to the bit, with work that nobody disturbed.

    python tests/kill.py --kills 100 --record data/results/robust/kill.json     # the long form; about as many minutes as its table says
    python tests/kill.py --kills 6 --kinds lift studio                          # some kinds only

A start is a child that is forked from a process which has imported everything (and run nothing), in a session of its own, so that a start costs no import; the
graph and the preparation with several processes are real commands. A kill is `kill -9` of all processes of that start, or (`how`) of the first alone, or of one
that it started, as the out-of-memory killer would choose it. Timestamps and durations are left out of the comparison, and executed notebooks, pictures and pages;
everything else counts, to the bit: weights, metrics, curves, rows, joints, data sets with their videos, and files that the reference does not have.
"""
import argparse, contextlib, hashlib, json, os, platform, re, shutil, signal, sys, tempfile, time, traceback
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"): os.environ[name] = "1"   # before torch: threads do not outlive a fork
os.environ["MPLBACKEND"] = "agg"

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parent.parent
STUDIO = dict(subjects=("S1", "S8", "S9"), actions=("Walking",), trials=1, frames=32, fps=12.5, size=32)
NET = dict(size=32, patch=4, window=4, dim=16, depths=(1, 1), heads=(2, 2), drop_path=.1, aggregate="places", relation_depth=1, relation_heads=2, relation_drop_path=.1)
TINY = dict(name="tiny", studio=STUDIO, detector=NET, frames=(8, 32), ablations=(), eval_step=4, epoch_images=64,
    fit=dict(images=160, batch=8, choose="last", warmup=.1, unit=1., augment=dict(shift=.06, zoom=.1, colour=.2, flip=.5), held_out=("S8", ("Walking",)), watch=3, keep_every=0.),
    relation=dict(images=5_000, batch=256, frozen=True, copies=1, drop_views=.1, augment=dict(shift=.06), choose="best"),
    lifter=dict(frames=9, dim=8, depth=1, heads=2, drop_path=.1), lift=dict(windows=2_000, batch=32, lr=5e-3, schedule="cosine", start="mean", every=5, save_seconds=0.))
PLAN = ("data", "train", "lift", "table1", "table2", "table3", "claims", "report")   # of the graph; without rivals, which are no other code, and the bench


# ---- what is started -------------------------------------------------------------------------------------------------------------------------------------

def no_pictures():
    "Draw nothing: pictures are not compared, and would take most of the time."
    from unittest.mock import MagicMock
    import matplotlib.pyplot as plt
    def subplots(nrows=1, ncols=1, squeeze=True, **_):
        axes = np.empty((nrows, ncols), object)
        for i in np.ndindex(nrows, ncols): axes[i] = MagicMock()
        return MagicMock(), axes if not squeeze else axes[0, 0] if axes.size == 1 else axes.squeeze()
    plt.subplots, plt.figure, plt.tight_layout = subplots, lambda **_: MagicMock(), lambda **_: None


def run_cells(name, params):
    "A papermill notebook, cell by cell, in this process: what its kernel would run, except that nothing is drawn."
    no_pictures()
    from IPython.core.interactiveshell import InteractiveShell
    from mpst_nb.core import find_notebook
    shell = InteractiveShell.instance()
    for cell in json.loads(find_notebook(name).read_text())["cells"]:
        if cell["cell_type"] != "code": continue
        shell.run_cell("".join(cell["source"]), store_history=True).raise_error()
        if "parameters" in cell["metadata"].get("tags", ()): shell.run_cell("# Parameters\n" + "\n".join(f"{k} = {v!r}" for k, v in params.items()), store_history=True).raise_error()


def tiny():
    "Make the tiny profile known to this process."
    from mpst_nb import core
    core.PROFILES["tiny"] = replace(core.PROFILES["quick"], **TINY)


SITE = f"""from dataclasses import replace
from mpst_nb import core, plan
core.PROFILES["tiny"] = replace(core.PROFILES["quick"], **{TINY!r})
whole, plan.RIVAL_METHODS = plan.paper_plan, ()
def some(name, seeds=None):
    steps = [s for s in whole(name, seeds) if s.notebook in {PLAN!r}]
    done = {{}}
    for s in steps: done[s.target] = replace(s, needs=tuple(done[n.target] for n in s.needs if n.target in done))
    return list(done.values())
plan.paper_plan = some
"""


@dataclass(frozen=True)
class Kind:
    "One kind of work. `start(work)` does it in a folder, `shared` is what it reads; `sound(work, reference)` must hold after each kill, before anything is started again."
    start: object
    looks: tuple = ("out",)          # folders of the work that are compared
    sound: object = lambda work, reference: None
    before: object = None            # what is there before the first start
    share: float = 1.                # of the kills
    chain: int = 3                   # kills before it is left to end
    how: tuple = ("all",)            # who is killed


def train_images(work, shared): run_cells("train", dict(profile="tiny", method="baseline", data=str(shared / "store"), device="cpu"))
def train_tokens(work, shared): run_cells("train", dict(profile="tiny", frames=8, baseline=str(shared / "baseline"), data=str(shared / "store"), device="cpu"))
def lift(work, shared): run_cells("lift", dict(profile="tiny", detector=str(shared / "ours"), data=str(shared / "store"), device="cpu"))


def studio(work, shared, workers=1):
    from mpst_nb.data.studio import StudioConfig, prepare_studio
    prepare_studio(StudioConfig(**STUDIO | dict(actions=("Walking", "Posing"), subjects=("S1", "S9"), frames=4)), work / "out", workers)


def studio_processes(work, shared): studio(work, shared, 2)


def wild(work, shared):
    from mpst_nb.data.wild import WildConfig, prepare_wild
    prepare_wild(WildConfig(sequences=3, frames=4, size=32), work / "out", 1)


def h36m(work, shared):
    from mpst_nb.data.release import prepare_h36m
    prepare_h36m(shared / "release", work / "out", 32, workers=1)


def release(work, shared):
    from mpst_nb.data.release import export_studio
    from mpst_nb.data.studio import StudioConfig
    export_studio(StudioConfig(**STUDIO | dict(subjects=("S1", "S9"), frames=2, fps=50.)), work / "out", workers=1)


def predict(work, shared, overwrite=False):
    from mpst_nb.predict import predict_videos
    from mpst_nb.models.detector import load_model
    if not overwrite and (work / "out").exists(): return           # it had ended already
    predict_videos(sorted((shared / "rig").glob("*.mp4")), shared / "rig" / "rig.json", work / "out", model=load_model(shared / "ours"), box="axes", formats="npz,trc", overwrite=overwrite, part=8, say=print, device="cpu")


def predict_again(work, shared): predict(work, shared, overwrite=True)


def tiny_for_all(work):
    "Make the tiny profile known to every process that this one starts."
    (work / "site").mkdir(parents=True, exist_ok=True); (work / "site" / "sitecustomize.py").write_text(SITE)
    os.environ["PYTHONPATH"] = f"{work / 'site'}{os.pathsep}{ROOT}"


def train_processes(work, shared):
    "The command that a cluster gives, with both processes here."
    tiny_for_all(work)
    params = dict(profile="tiny", method="baseline", data=shared / "store", device="cpu")
    os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "mpst_nb.cli", "run", "train", *(str(w) for k, v in params.items() for w in ("-p", f"{k}", v))])


def graph(work, shared):
    "The command itself, in a project of its own whose notebooks are this one's."
    tiny_for_all(work)
    (work / "project").mkdir(exist_ok=True)
    for name in ("Snakefile", "nbs", "settings.ini", "data"):
        if not (work / "project" / name).exists(): (work / "project" / name).symlink_to(ROOT / name)
    os.environ["MPST_ROOT"] = str(work / "project")
    os.execv(sys.executable, [sys.executable, "-m", "mpst_nb.cli", "reproduce", "--profile", "tiny", "--cores", "2"])


def rig(path):
    "Videos of a figure of dots that walks through the views of four cameras, and their calibration."
    import cv2
    from mpst_nb.camera import example_cameras
    from mpst_nb.data.rig import VideoWriter, write_calibration
    path.mkdir(parents=True)
    cameras = [c.cropped(np.array([[.16, 0, 0], [0, .16, 0.]]), (160, 120)) for c in example_cameras("none")]
    write_calibration(path / "rig.json", cameras)
    for c in cameras:
        with VideoWriter(path / f"{c.name}.mp4", 50) as w:
            for t in range(48):
                image = np.full((120, 160, 3), 60, np.uint8)
                for z in range(100, 1800, 100):
                    x, y = np.nan_to_num(c.project([300 * np.sin(t / 8 + z / 900), 100 * np.cos(z), z]))
                    cv2.circle(image, (int(x), int(y)), 3, (255, 200, 120), -1)
                w.add(image)


def read_or_half(work, reference):
    "A data set that was killed is whole, or says that it is half there."
    from mpst_nb.core import MpstError
    from mpst_nb.data.clips import open_store
    try: store = open_store(work / "out")
    except MpstError as e: return None if re.search("half prepared|holds no prepared", str(e)) else str(e)
    return None if store.hash == open_store(reference / "out").hash else "a data set that can be opened and is another"


def old_or_new(work, reference):
    "A prediction is whole at any moment, the old one or the new one; for the one that is not replaced, there is none or it is whole."
    if not (work / "out").exists(): return "the old prediction is gone" if (work / "old").exists() else None
    if not (differ := between(work / "out", reference / "out")) or (work / "old").exists() and not between(work / "out", work / "old"): return None
    return "a prediction that is neither the old one nor the new one: " + ", ".join(differ)


def record_or_none(work, reference):
    "A record is there and whole, or it is not there; then it leads to weights that load."
    for f in work.rglob("result.json"):
        try: json.loads(f.read_text())
        except ValueError as e: return f"{f.parent.name}/{f.name} is no JSON: {e}"


def old_prediction(work, shared):
    "The prediction that is replaced: of the same rig, shorter and by another network."
    from mpst_nb.models.detector import create_model
    from mpst_nb.predict import predict_videos
    predict_videos(sorted((shared / "rig").glob("*.mp4")), shared / "rig" / "rig.json", work / "old", model=create_model("baseline", "tiny"), box="axes", frames=8, say=None, device="cpu")
    shutil.copytree(work / "old", work / "out")


KINDS = {
    "train on images": Kind(train_images, ("runs",), record_or_none, share=2),
    "train relations on tokens": Kind(train_tokens, ("runs", "cache/tokens"), record_or_none, share=2),
    "train in two processes": Kind(train_processes, ("runs",), record_or_none, share=.3, how=("all", "child")),
    "lift": Kind(lift, ("runs",), record_or_none, share=2),
    "render the studio": Kind(studio, sound=read_or_half),
    "render, two processes": Kind(studio_processes, sound=read_or_half, share=.5, how=("all", "all", "child")),
    "render studio-wild": Kind(wild, sound=read_or_half, share=.5),
    "export a release": Kind(release, share=.5),
    "prepare h36m": Kind(h36m, sound=read_or_half),
    "predict": Kind(predict, sound=old_or_new),
    "predict, replacing": Kind(predict_again, sound=old_or_new, before=old_prediction),
    "the graph": Kind(graph, ("runs", "cache/studio-tiny", "cache/tokens"), record_or_none, share=.5, chain=99, how=("all", "all", "first", "child")),
}


# ---- starting, killing, comparing ------------------------------------------------------------------------------------------------------------------------

def log_of(work): return work.with_name(work.name + ".log")            # beside it: its own disk may be full


def child(work, function, *args):
    "Fork; the child has a session of its own, its output in a log, and folders of its own. Its process id."
    sys.stdout.flush(); sys.stderr.flush()
    pid = os.fork()
    if pid: return pid
    code = 1
    try:
        os.setsid()
        log = os.open(log_of(work), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for fd in (1, 2): os.dup2(log, fd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ |= dict(MPST_RUNS=str(work / "runs"), MPST_CACHE=str(work / "cache"), HF_HUB_OFFLINE="1")
        tiny(); function(*args); code = 0
    except BaseException: traceback.print_exc()
    finally:
        sys.stdout.flush(); sys.stderr.flush(); os._exit(code)


def family(pid):
    "A process and all that it started, itself first."
    try: top = psutil.Process(pid); return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess: return []


def kill(pid, how, rng):
    "SIGKILL to all processes of a start, to the first alone, or to one that it started, where there is one. Who was hit."
    all_of_it = family(pid)
    if how == "child" and len(all_of_it) > 1: victims = [all_of_it[1 + rng.integers(len(all_of_it) - 1)]]
    elif how == "first": victims = all_of_it[:1]
    else: how, victims = "all", all_of_it
    for p in victims: p.suspend() if how == "all" else None      # so that nothing is started while they go
    for p in victims:
        with contextlib.suppress(psutil.NoSuchProcess): p.kill()
    return how


def working(work):
    "The processes that work in a folder, by whoever started them."
    out = []
    for p in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if p.environ().get("MPST_RUNS") == str(work / "runs"): out.append(p)
    return out


def ended(pid, seconds):
    "The exit code of a child if it ends within so many seconds, else None."
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done: return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until: return None
        time.sleep(min(.01, max(0., until - time.monotonic())))


VARIES = re.compile(r"second|clock|waited|data_share|started|^git$|^epoch_times$|load|^host$|^read$|^number$|^bytes$")   # durations, when, where
SAID = re.compile(r"; \d+\.\d+ s;|\d+\.\d+ s → [^\"<|]*")                                                       # durations in words


def plain(o):
    if isinstance(o, dict):
        if {"columns", "rows"} <= o.keys(): o = o | dict(rows=[[c for head, c in zip(o["columns"], row) if head != "s/epoch S1"] for row in o["rows"]])
        return {k: plain(v) for k, v in o.items() if not VARIES.search(k)}
    return [plain(v) for v in o] if isinstance(o, list) else SAID.sub("", o) if isinstance(o, str) else o


def contents(folder):
    "file -> hash of what it holds, without times; a file that nobody compares is there with an empty one."
    out = {}
    for f in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        name = f.relative_to(folder).as_posix()
        if f.suffix in (".ipynb", ".html", ".png", ".txt", ".pdf", ".svg", ".csv", ".lock") or "/log/" in f"/{name}": out[name] = ""; continue
        data = f.read_bytes()
        if f.suffix == ".json": data = json.dumps(plain(json.loads(data)), sort_keys=True).encode()
        if f.suffix == ".cdf": data = __import__("cdflib").CDF(f).varget("Pose").tobytes()                # its compressed blocks bear the time
        out[name] = hashlib.sha256(data).hexdigest()
    return out


def differences(ours, reference):
    "What is missing, differs, or is too many."
    words = dict(missing=reference.keys() - ours.keys(), differs={k for k in ours.keys() & reference.keys() if ours[k] != reference[k]}, extra=ours.keys() - reference.keys())
    return [f"{word}: {n}" for word, names in words.items() for n in sorted(names)]


def between(folder, reference):
    "What differs between two folders."
    return differences(contents(folder), contents(reference))


def compared(kind, work, reference): return [f"{look}/{d}" if len(kind.looks) > 1 else d for look in kind.looks for d in between(work / look, reference / look)]


class Harness:
    "Everything in a folder: what the kinds read, a reference of each, and the trials."
    def __init__(self, path, say=print):
        self.path, self.say, self.shared, self.references = Path(path), say, Path(path) / "shared", {}

    def run(self, work, function, *args, seconds=900):
        "In a child, to its end; raises with its output if it fails."
        work.mkdir(parents=True, exist_ok=True)
        pid, began = child(work, function, *args), time.monotonic()
        code = ended(pid, seconds)
        if code is None: kill(pid, "all", None); ended(pid, 10)
        if code: raise RuntimeError(f"{getattr(function, '__name__', function)} {'did not end' if code is None else f'ended with {code}'}:\n" + (log_of(work)).read_text()[-3000:])
        return time.monotonic() - began

    def share(self, kinds):
        "What the kinds read."
        need, make = set(kinds), self.shared
        if need & {"train on images", "train in two processes", "train relations on tokens", "lift", "predict", "predict, replacing"} and not (make / "ours").exists():
            self.run(make, _store, make)
            for name, params in (("baseline", dict(method="baseline")), ("ours", dict(frames=8, baseline=str(make / "baseline")))):
                self.run(make, run_cells, "train", dict(profile="tiny", data=str(make / "store"), device="cpu", **params))
                (folder,) = [d for d in (make / "runs" / "tiny" / "train").iterdir() if ("method=baseline" in d.name) == (name == "baseline")]
                shutil.copytree(folder, make / name)
        if need & {"predict", "predict, replacing"} and not (make / "rig").exists(): self.run(make, rig, make / "rig")
        if "prepare h36m" in need and not (make / "release").exists(): self.run(make, _release, make / "release")

    def fresh(self, name, trial):
        "An empty folder for a trial, with the bodies of the project, which are made once."
        from mpst_nb.core import folder
        work = self.path / f"{re.sub('[^a-z0-9]+', '-', name)}-{trial}"
        (work / "cache").mkdir(parents=True)
        for d in ("anny", "bodies"): (work / "cache" / d).symlink_to(folder("cache") / d)
        if KINDS[name].before: self.run(work, KINDS[name].before, work, self.shared)
        return work

    def reference(self, name):
        "Work that nobody disturbs; the second time, for how long it takes and that it is the same. (folder, seconds)"
        if name not in self.references:
            self.share([name])
            one = self.fresh(name, "reference"); seconds = self.run(one, KINDS[name].start, one, self.shared)
            if name != "the graph":                                                    # which takes minutes; its killed runs tell
                two = self.fresh(name, "again"); seconds = self.run(two, KINDS[name].start, two, self.shared)
                if differ := compared(KINDS[name], two, one): raise RuntimeError(f"{name}: two undisturbed runs differ: {differ}")
            self.references[name] = one, seconds
        return self.references[name]

    def trial(self, name, number, hurts, rng, hurt="kill"):
        "Start it; hurt it at a moment drawn from its duration; start it again; so many times; let it end; compare. A dict of what happened."
        kind, (reference, seconds) = KINDS[name], self.reference(name)
        work, t = self.fresh(name, f"{hurt}-{number}"), dict(kind=name, hurt=hurt, times=0, how=[], faults=[], said=[])
        with disk(work) if hurt == "disk" else contextlib.nullcontext():
            for _ in range(3 * hurts):                                                 # a start that ends first counts for nothing
                if t["times"] == hurts or t["faults"]: break
                pid = child(work, kind.start, work, self.shared)
                code = ended(pid, rng.uniform(0, seconds))
                if code is None: code = (self._fill if hurt == "disk" else self._kill)(pid, kind, work, rng, t)
                elif code: t["faults"].append("a start failed: " + last_words(work))
                if code == 0 and kind.before is None: break                            # it has ended: nothing is left to hurt
                if trouble := kind.sound(work, reference): t["faults"].append(f"after {t['how'][-1:]}: {trouble}")
            try: self.run(work, kind.start, work, self.shared)
            except RuntimeError as e: t["faults"].append(str(e))
            else: t["faults"] += compared(kind, work, reference)
        t["went_on"] = log_of(work).read_text(errors="replace").count("going on with frame")
        if not t["faults"]: shutil.rmtree(work); log_of(work).unlink()
        return t

    def _kill(self, pid, kind, work, rng, t):
        who = kill(pid, str(rng.choice(kind.how)), rng); t["how"].append(who); t["times"] += 1
        code = ended(pid, max(120, 3 * self.references[t["kind"]][1]) if who == "child" else 10)
        if code is None: t["faults"].append(f"hangs after a kill of {who}"); kill(pid, "all", rng); ended(pid, 10)
        if who == "child" and code: t["said"].append(last_words(work))
        if who == "first" and working(work):                                           # what it started goes on: a second one must be refused
            code = ended(again := child(work, kind.start, work, self.shared), 120)
            if code != 1 or "being written by" not in last_words(work): t["faults"].append(f"a second one was not refused ({code}): {last_words(work)}"); kill(again, "all", rng)
            else: t["said"].append(last_words(work))
        for p in working(work): p.kill()                                               # or, as a user may, wait for them
        return code if code == 0 else None

    def _fill(self, pid, kind, work, rng, t):
        "Fill its disk, see what it says, and make room again."
        with contextlib.suppress(OSError), open(work / "filler", "wb", 0) as f:
            while True: f.write(bytes(1 << 16))
        code = ended(pid, 300); (work / "filler").unlink()
        if code is None: t["faults"].append("hangs on a full disk"); kill(pid, "all", rng); ended(pid, 10)
        elif code:                                                                     # 0: it had nothing left to write
            t["how"].append("disk"); t["times"] += 1; t["said"].append(said := last_words(work))
            if not re.match(r"(mpst|(mpst_nb\.core\.)?(MpstError|NotWritten)): .*(No space left|cannot be written)", said): t["faults"].append(f"not a clear message: {said}")
        return code


@contextlib.contextmanager
def disk(folder, megabytes=48):
    "The folder on a small disk of its own, which only an administrator may make."
    import subprocess
    aside = folder.with_name(folder.name + ".aside"); folder.rename(aside); folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode: raise PermissionError(f"no disk of its own for {folder.name}: {done.stderr.strip()}")
    shutil.copytree(aside, folder, symlinks=True, dirs_exist_ok=True)
    try: yield
    finally:
        shutil.rmtree(aside); shutil.copytree(folder, aside, symlinks=True)
        subprocess.run(["umount", "-l", str(folder)], check=True); folder.rmdir(); aside.rename(folder)


def last_words(work):
    "The last line of the output that names an error; torchrun says after it that its child failed."
    lines = [l for l in re.sub(r"\x1b\[[\d;]*m", "", (log_of(work)).read_text(errors="replace")).splitlines() if re.match(r"\S*(Error|Exception|mpst|Exit|Interrupt)\S*:", l) and "ChildFailedError" not in l]
    return lines[-1].replace(str(work.parent), "…") if lines else "(nothing)"


def _store(shared):
    "A data set of noise, seen by four cameras: what a network makes of it does not matter here, and it need not be drawn."
    from mpst_nb.camera import box_of, crop_affine, example_cameras
    from mpst_nb.data.clips import StoreWriter
    rng, cameras, n, keys = np.random.default_rng(0), example_cameras("none"), 16, [f"{s}-Walking-1" for s in ("S1", "S8", "S9")]
    writer = StoreWriter(shared / "store", dict(source="noise"), 32, 40, keys)
    for key in keys:
        joints = rng.normal(size=(1, 17, 3)) * [250, 250, 500] + rng.normal(size=(n, 17, 3)).cumsum(0) * 15 + [0, 0, 900]
        xy = np.stack([c.project(joints) for c in cameras]); box = box_of(xy); A = crop_affine(box, 32); A[..., 2] += 4
        writer.add(key, np.kron(rng.integers(0, 255, (4, n, 10, 10, 3)), np.ones((1, 1, 4, 4, 1))).astype(np.uint8), joints, xy, rng.random((4, n, 17)) < .8, A, box, cameras, 12.5)
    writer.close([dict(key=k, source="studio", subject=k[:2], action="Walking", trial=1, frames=n, fps=12.5, split="test" if k[:2] == "S9" else "train") for k in keys])


def _release(path):
    from mpst_nb.data.release import export_studio
    from mpst_nb.data.studio import StudioConfig
    export_studio(StudioConfig(**STUDIO | dict(subjects=("S1", "S9"), frames=6, fps=50.)), path, workers=1)


# ---- the long form ---------------------------------------------------------------------------------------------------------------------------------------

def preload():
    "Import, in the process that forks, what the work would import; nothing is run, so there is no thread that a fork would lose."
    import accelerate, av, cv2, IPython.core.interactiveshell, matplotlib.pyplot, pandas, pyarrow.parquet, timm, torch  # noqa: F401
    import mpst_nb.data.files, mpst_nb.data.release, mpst_nb.data.source, mpst_nb.data.wild, mpst_nb.fit, mpst_nb.models.lifter, mpst_nb.predict  # noqa: F401
    from mpst_nb import core
    now, code = core.versions(), core.code_version()                                    # asked once: they do not change from start to start
    core.versions, core.code_version = lambda: now, lambda: code
    assert len(list(Path("/proc/self/task").iterdir())) <= 1 + (os.cpu_count() or 1), "a thread runs already"


def shares(kinds, kills):
    "How many kills each kind gets: in proportion to `share`, one at least."
    total = sum(KINDS[k].share for k in kinds)
    out = {k: max(1, round(kills * KINDS[k].share / total)) for k in kinds}
    out[max(out, key=out.get)] += kills - sum(out.values())
    return out


def table(trials, seconds):
    "Rows kind, kills, how, survived, lost, what differed. Lost are the kills of trials that did not end as the reference."
    rows = []
    for name in dict.fromkeys(t["kind"] for t in trials):
        of = [t for t in trials if t["kind"] == name]
        how = [h for t in of for h in t["how"]]
        rows.append(dict(kind=name, seconds=round(seconds.get(name, 0.), 1), times=len(how), how={h: how.count(h) for h in sorted(set(how))}, survived=sum(t["times"] for t in of if not t["faults"]),
                         lost=sum(max(1, t["times"]) for t in of if t["faults"]), differed=sorted({f[:300] for t in of for f in t["faults"]}), said=sorted({w[:300] for t in of for w in t["said"]})[:3])
                    | (dict(went_on=on) if (on := sum(t.get("went_on", 0) for t in of)) else {}))
    return rows


def show(rows, what="kills"):
    print(f"{'kind':28}{'a run, s':>9}{what:>7}{'survived':>10}{'lost':>6}  who")
    for r in rows:
        print(f"{r['kind']:28}{r['seconds']:9.1f}{r['times']:7}{r['survived']:10}{r['lost']:6}  " + ", ".join(f"{n} {h}" for h, n in r["how"].items()))
        for d in r["differed"]: print(f"    differed: {d}")
    print(f"{'all':28}{'':9}{sum(r['times'] for r in rows):7}{sum(r['survived'] for r in rows):10}{sum(r['lost'] for r in rows):6}")


def keep(a, out, minutes):
    "The tables as a record; what it holds of other kinds, from runs of those kinds alone, stays."
    from mpst_nb.core import code_version, host, read_json, versions, write_json
    words = f"python tests/kill.py --kills {a.kills} --disks {a.disks} --seed {a.seed}" + ("" if a.kinds == list(KINDS) else " --kinds " + " ".join(f'"{k}"' for k in a.kinds))
    about = dict(command=words, date=f"{datetime.now(timezone.utc):%Y-%m-%d}", git=code_version(), minutes=round(minutes, 1))
    old = read_json(a.record) if Path(a.record).exists() else {}
    merged = {}
    for what, hurt in (("kills", "kill"), ("disks", "disk")):
        rows = {r["kind"]: r for r in old.get(what, [])} | {r["kind"]: r | about for r in out.get(hurt, [])}
        merged[what] = [rows[k] for k in KINDS if k in rows]
    write_json(a.record, merged | dict(versions=versions(), host=host()))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--kills", type=int, default=100); p.add_argument("--disks", type=int, default=0, help="so many times the disk is full instead (needs an administrator, for a small tmpfs)")
    p.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS)); p.add_argument("--seed", type=int, default=0)
    p.add_argument("--work", help="folder for the work; what was lost is kept there"); p.add_argument("--record", help="JSON file for the tables")
    a = p.parse_args()
    work = Path(a.work or tempfile.mkdtemp(prefix="kill-")); work.mkdir(parents=True, exist_ok=True)
    preload()
    harness, rng, began, out = Harness(work), np.random.default_rng(a.seed), time.monotonic(), {}
    for hurt, n in (("kill", a.kills), ("disk", a.disks)):
        trials = []
        for name, due in (shares([k for k in a.kinds if hurt == "kill" or k != "the graph"], n) if n else {}).items():
            number = 0
            while (left := due - sum(t["times"] for t in trials if t["kind"] == name)) > 0 and number < 4 * due:
                try: t = harness.trial(name, number, min(left, KINDS[name].chain), rng, hurt)
                except RuntimeError as e: t = dict(kind=name, hurt=hurt, times=0, how=[], faults=[str(e)[-600:]], said=[])   # undisturbed, it fails or is not the same twice
                trials.append(t); number += 1
                print(f"{time.monotonic() - began:6.0f} s  {name}: {t['times']} {hurt} {', '.join(t['how'])}{' LOST ' + '; '.join(t['faults'])[:1000] if t['faults'] else ''}", flush=True)
                if t["faults"] and not t["times"]: break
            out[hurt] = table(trials, {k: s for k, (_, s) in harness.references.items()})
            if a.record: keep(a, out, (time.monotonic() - began) / 60)                 # after each kind: this one may be killed too
        if trials: show(out[hurt], dict(kill="kills", disk="full")[hurt])
    lost = sum(r["lost"] for rows in out.values() for r in rows)
    if not lost and not a.work: shutil.rmtree(work)
    elif lost: print(f"what was lost is in {work}")
    sys.exit(bool(lost))


if __name__ == "__main__": main()
