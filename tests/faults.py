"""Faults that happen to runs of days, each made here on purpose: what the user sees, and what is left.

    python tests/faults.py                                                  # prints the table
    python tests/faults.py --record data/results/robust/faults.json         # and keeps it

`tests/test_faults.py` runs each one; the checks are here, in the faults themselves.
"""
import argparse, contextlib, io, json, os, re, shutil, signal, subprocess, sys, tempfile, time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from unittest import mock

FAULTS = {}


def fault(name, see, left):
    "Register a fault: `see` must be found in what it says; `left` says what is left, which the fault itself has checked."
    def put(f): FAULTS[name] = (f, see, left); return f
    return put


def message(f, *args, **kwargs):
    "The error for the user that a call ends with; any other error is not caught."
    from mpst_nb.core import MpstError
    try: f(*args, **kwargs)
    except MpstError as e: return str(e)
    raise AssertionError(f"{getattr(f, '__name__', f)} did not complain")


def command(*words):
    "What `mpst` prints on its error stream, and its exit code."
    from mpst_nb.cli import main
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()): code = main([str(w) for w in words])
    return code, said.getvalue().strip()


# ---- something small to hurt -----------------------------------------------------------------------------------------------------------------------------

def small_store(path, seed=0):
    "A data set of two sequences of noise, seen by two cameras."
    import numpy as np
    from mpst_nb.camera import example_cameras
    from mpst_nb.data.clips import StoreWriter
    rng, cameras, n = np.random.default_rng(seed), example_cameras("none")[:2], 8
    writer = StoreWriter(path, dict(source="noise", seed=seed), 32, 40, ["S1-Walking-1", "S9-Walking-1"], "mpst prepare studio")
    for key in writer_keys:
        joints = rng.uniform(8, 32, (2, n, 17, 2))
        crop, box = np.tile(np.eye(2, 3), (2, n, 1, 1)), np.tile([0., 0, 40, 40], (2, n, 1))
        writer.add(key, rng.integers(0, 255, (2, n, 40, 40, 3), dtype=np.uint8), rng.normal(size=(n, 17, 3)), joints, np.ones((2, n, 17), bool), crop, box, cameras, 50)
    return writer.close([dict(key=k, source="noise", subject=k[:2], action="Walking", trial=1, frames=n, fps=50., split="train" if k[1] == "1" else "test") for k in writer_keys])


writer_keys = ("S1-Walking-1", "S9-Walking-1")


def training(store, folder=None, lr=1e-3, steps=6, step=None, dim=32, **data):
    "A short training of a tiny baseline that keeps its state after each step; its curve and network."
    from mpst_nb.fit import FitConfig, ImageSampler, fit
    from mpst_nb.models.detector import Detector, DetectorConfig
    from mpst_nb.core import seed_everything
    seed_everything(0)
    model = Detector(DetectorConfig(size=32, patch=4, window=4, dim=dim, depths=(1, 1), heads=(2, 4), relations="", drop_path=0., keep=1., aggregate="places"))
    config = FitConfig(images=steps * 4, batch=4, lr=lr, unit=1., choose="last", keep_every=0., watch=2)
    draw = ImageSampler(store, ["S1-Walking-1"], config)
    if step: draw = step(draw)
    return fit(model, draw, config, steps, folder, device="cpu", progress=False, data=store.hash), model


class Stops:
    "A sampler that does something before it draws a step."
    def __init__(self, draw, at, do): self.draw, self.at, self.do = draw, at, do
    def __getattr__(self, name): return getattr(self.draw, name)
    def __call__(self, step, *rows):
        if step == self.at: self.do()
        return self.draw(step, *rows)


class Stopped(Exception): pass


def stop(): raise Stopped


def stopped(store, folder, at=4):
    "A training that was stopped, with its state in the folder."
    with contextlib.suppress(Stopped): training(store, folder, step=lambda draw: Stops(draw, at, stop))
    assert (Path(folder) / "last.pt").exists()
    return {f.name: f.read_bytes() for f in Path(folder).glob("*.pt")}


def same(a, b): return all(bool((x == y).all()) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


@contextlib.contextmanager
def full_disk():
    "What is written aside goes to a device that is always full: the kernel's own error for a disk without room."
    from mpst_nb import core
    def aside(path):
        tmp = path.with_name(f".{path.stem}.{core._pid_name()}.tmp{path.suffix}")
        tmp.unlink(missing_ok=True); tmp.symlink_to("/dev/full")
        return []
    with mock.patch.object(core, "_left_behind", aside), mock.patch.object(core.shutil, "disk_usage", lambda path: mock.Mock(free=0)): yield


@contextlib.contextmanager
def nobody(folder):
    "Without the right to write in a folder, also for an administrator."
    folder.chmod(0o555); root = os.geteuid() == 0
    if root: os.seteuid(65534)
    try: yield
    finally:
        if root: os.seteuid(0)
        folder.chmod(0o755)


# ---- the faults ------------------------------------------------------------------------------------------------------------------------------------------

@fault("disk full while a training saves its state", r"last\.pt cannot be written \(No space left on device\): make room .* The training goes on",
       "the state before; the training ends, with the same weights")
def disk_checkpoint(tmp):
    store = small_store(tmp / "store"); _, undisturbed = training(store)
    before = stopped(store, tmp / "run")
    said = io.StringIO()
    with full_disk(), contextlib.redirect_stderr(said): _, model = training(store, tmp / "run")
    assert {f.name: f.read_bytes() for f in (tmp / "run").glob("*.pt")} == before and same(model, undisturbed)
    return said.getvalue().strip().splitlines()[0]


@fault("disk full while a run saves its record", r"cannot be written \(No space left on device\): make room", "no record, and the last state, from which the same command goes on")
def disk_record(tmp):
    import pandas as pd
    from mpst_nb.core import Run
    with mock.patch.dict(os.environ, MPST_RUNS=str(tmp / "runs")):
        run = Run("train", dict(profile="quick", seed=0)).begin(); (run.folder / "last.pt").write_text("state")
        with full_disk(): said = message(run.save, dict(MSE=1.), pd.DataFrame(dict(key=["a"])))
        assert sorted(f.name for f in run.folder.iterdir() if not f.name.endswith(".lock")) == ["last.pt"]
        run.save(dict(MSE=1.)); assert (run.folder / "result.json").exists()
    return said


@fault("disk full while a data set is prepared", r"\.mp4 cannot be written \(No space left on device\): make room", "what was finished; the data set says that it is half prepared and how to go on")
def disk_store(tmp):
    from mpst_nb.data.clips import StoreWriter, open_store
    add = StoreWriter.add
    def without_room(self, *args, **kwargs):
        with full_disk(): return add(self, *args, **kwargs)
    with mock.patch("mpst_nb.data.clips.StoreWriter.close", lambda self, rows: None): small_store(tmp / "store")
    (tmp / "store" / "annotations" / "S9-Walking-1.npz").unlink()
    files = {f: f.read_bytes() for f in (tmp / "store" / "annotations").iterdir()}
    with mock.patch.object(StoreWriter, "add", without_room): said = message(small_store, tmp / "store")
    assert {f: f.read_bytes() for f in (tmp / "store" / "annotations").iterdir()} == files and "half prepared" in message(open_store, tmp / "store")
    small_store(tmp / "store"); open_store(tmp / "store").crops("S9-Walking-1")
    return said


@fault("disk full while a prediction is replaced", r"cannot be written \(No space left on device\): make room", "the old prediction, whole")
def disk_prediction(tmp):
    from mpst_nb.core import atomic_path
    old = tmp / "out"
    with atomic_path(old) as t: t.mkdir(); (t / "predictions.json").write_text("old")
    def predict():
        with atomic_path(old) as t:
            t.mkdir(); (t / "joints2d.parquet").symlink_to("/dev/full")
            with open(t / "joints2d.parquet", "wb", 0) as f: f.write(b"new")
    said = message(predict)
    assert [f.name for f in tmp.rglob("*")] == ["out", "predictions.json"]
    return said


@fault("no right to write where runs go", r"cannot be (made|written) \(Permission denied\).*MPST_RUNS", "nothing was begun")
def no_permission(tmp):
    from mpst_nb.core import Run
    (tmp / "runs").mkdir()
    with mock.patch.dict(os.environ, MPST_RUNS=str(tmp / "runs")), nobody(tmp / "runs"): said = message(Run("train", dict(profile="quick", seed=0)).begin)
    assert not list((tmp / "runs").iterdir())
    return said


@fault("no right to write where a data set goes", r"store/annotations cannot be made \(Permission denied\): change the permissions", "nothing was begun")
def no_permission_data(tmp):
    (tmp / "cache").mkdir(); small_store(tmp / "store")                                # which imports what it needs, while it may
    with nobody(tmp / "cache"): said = message(small_store, tmp / "cache" / "store")
    assert not list((tmp / "cache").iterdir())
    return said


@fault("a crop video that is damaged", r"S1-Walking-1\.\w+\.mp4 .*prepare", "the rest of the data set can be read")
def damaged_video(tmp):
    store = small_store(tmp / "store")
    (f := next((store.path / "crops").glob("S1*.mp4"))).write_bytes(f.read_bytes()[:600])
    said = message(store.crops, "S1-Walking-1"); store.crops("S9-Walking-1")
    return said


@fault("a bit of a crop video that flipped on its disk", r"S1-Walking-1\.\w+\.mp4 is not what was prepared: its checksum differs\. Remove .* and prepare the data set again", "the rest of the data set can be read")
def flipped_video(tmp):
    store = small_store(tmp / "store")
    f = next((store.path / "crops").glob("S1*.mp4")); data = bytearray(f.read_bytes()); data[len(data) // 2] ^= 1; f.write_bytes(data)
    said = message(store.crops, "S1-Walking-1"); store.crops("S9-Walking-1")
    return said


@fault("an index that is damaged", r"store is a damaged data set .*its index is not the one that was prepared.*prepare it again", "nothing was changed")
def damaged_index(tmp):
    from mpst_nb.data.clips import open_store
    store = small_store(tmp / "store")
    f = store.path / "index.parquet"; data = bytearray(f.read_bytes()); data[len(data) // 2:] = bytes(len(data) - len(data) // 2); f.write_bytes(data)
    return message(open_store, store.path)


@fault("an index row that says more frames than the video has, where there are no checksums", r"S1-Walking-1.*(shorter|has not the frames)", "nothing was changed")
def damaged_row(tmp):
    from mpst_nb.data.clips import open_store
    store = small_store(tmp / "store"); store.index.assign(frames=99).to_parquet(store.path / "index.parquet", index=False); (store.path / "SHA256SUMS").unlink()
    return message(open_store(store.path).crops, "S1-Walking-1")


@fault("a sequence whose files are missing", r"S9-Walking-1\.npz .*prepare", "the rest of the data set can be read")
def missing_sequence(tmp):
    from mpst_nb.data.clips import open_store
    store = small_store(tmp / "store"); (store.path / "annotations" / "S9-Walking-1.npz").unlink()
    store = open_store(store.path); said = message(store.sequence, "S9-Walking-1"); store.sequence("S1-Walking-1")
    return said


@fault("a loss that is not a number", r"the loss is (nan|inf) in step 4\. Its batch: .*S1-Walking-1 from frame", "the state before that step")
def nan_loss(tmp):
    import torch
    store = small_store(tmp / "store"); before = stopped(store, tmp / "run", at=3)
    class Poisons(Stops):
        def __call__(self, step, *rows):
            batch = self.draw(step, *rows)
            if step == self.at: batch["target"] = batch["target"].clone(); batch["target"][0, 0, 0, 0] = 1e30
            return batch
    said = message(training, store, tmp / "run", step=lambda draw: Poisons(draw, 3, None))
    state = torch.load(tmp / "run" / "last.pt", weights_only=True)["state"]
    assert 0 < state["at"]["step"] <= 3 and all(bool(torch.isfinite(v).all()) for v in state["model"].values() if v.is_floating_point())
    return said


@fault("a data set that changed under a run", r"the data set has changed: data was '\w+.* and is '\w+", "the state of the training on the other data")
def changed_data(tmp):
    store = small_store(tmp / "store"); before = stopped(store, tmp / "run")
    said = message(training, small_store(tmp / "other", seed=1), tmp / "run")
    assert {f.name: f.read_bytes() for f in (tmp / "run").glob("*.pt")} == before
    return said


@fault("annotations that somebody changed under a run", r"S1-Walking-1\.npz is not what was prepared: its checksum differs", "the state of the training on what was prepared")
def changed_annotations(tmp):
    import numpy as np
    from mpst_nb.core import load_npz
    from mpst_nb.data.clips import open_store
    store = small_store(tmp / "store"); before = stopped(store, tmp / "run")
    f = store.path / "annotations" / "S1-Walking-1.npz"; d = load_npz(f); np.savez(f, **d | dict(joints2d=d["joints2d"] + 3))
    said = message(training, open_store(store.path), tmp / "run")
    assert {f.name: f.read_bytes() for f in (tmp / "run").glob("*.pt")} == before
    return said


@fault("a state of another architecture", r"checkpoint of another training: .*network\.dim was 32 and is 64", "that state")
def other_architecture(tmp):
    store = small_store(tmp / "store"); before = stopped(store, tmp / "run")
    said = message(training, store, tmp / "run", dim=64)
    assert {f.name: f.read_bytes() for f in (tmp / "run").glob("*.pt")} == before
    return said


@fault("a state of another version of the package", r"checkpoint of another version of this package \(format 1", "that state")
def other_version(tmp):
    import torch
    from mpst_nb.checkpoint import seal
    store = small_store(tmp / "store"); stopped(store, tmp / "run")
    held = torch.load(tmp / "run" / "last.pt", weights_only=True) | dict(format=1); torch.save(held, tmp / "run" / "last.pt"); seal(tmp / "run" / "last.pt")
    before = (tmp / "run" / "last.pt").read_bytes()
    said = message(training, store, tmp / "run")
    assert (tmp / "run" / "last.pt").read_bytes() == before
    return said


@fault("a last state that is damaged", r"last\.pt is damaged .*going on from the state before it", "the run ends with the weights of one that was not disturbed")
def damaged_state(tmp):
    store = small_store(tmp / "store"); _, undisturbed = training(store); stopped(store, tmp / "run")
    f = tmp / "run" / "last.pt"; data = bytearray(f.read_bytes()); data[len(data) // 2] ^= 1; f.write_bytes(data)
    said = io.StringIO()
    with contextlib.redirect_stderr(said): _, model = training(store, tmp / "run")
    assert same(model, undisturbed)
    return said.getvalue().strip().splitlines()[0]


@fault("two runs that write to one folder", r"is being written by train \(process N on HOST since WHEN\): wait until it has ended", "the first one, undisturbed")
def two_runs(tmp):
    from mpst_nb.core import Run
    with mock.patch.dict(os.environ, MPST_RUNS=str(tmp / "runs")):
        first = subprocess.Popen([sys.executable, "-c", "import sys; from mpst_nb.core import *\nr = Run('train', dict(profile='quick', seed=0)).begin(); print(flush=True); sys.stdin.read(); r.save({})"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        first.stdout.readline()
        said = message((second := Run("train", dict(profile="quick", seed=0))).begin)
        first.communicate(); assert first.returncode == 0 and (second.folder / "result.json").exists()
    return re.sub(r"process \d+ on \S+, since [\d :-]+", "process N on HOST since WHEN", said)


@fault("a GPU that is not there", r"device 'cuda' was asked for and this machine has no CUDA GPU; use device='cpu' or 'auto'", "nothing was begun")
def no_gpu(tmp):
    from mpst_nb.core import pick_device
    with mock.patch("torch.cuda.device_count", lambda: 0), mock.patch("torch.cuda.is_available", lambda: False): return message(pick_device, "cuda")


@fault("weights whose installation was interrupted", r"is not the file that the project shipped .*git checkout", "the old weights where it was killed; a file that was cut short is refused by its hash")
def interrupted_weights(tmp):
    import torch
    from safetensors.torch import save_file
    from mpst_nb.core import write_json
    from mpst_nb.models import weights
    with mock.patch.dict(os.environ, MPST_DATA=str(tmp / "data")):
        run = tmp / "run"; run.mkdir()
        write_json(run / "config.json", {}); save_file(dict(w=torch.ones(100, 100)), run / "model.safetensors")
        write_json(run / "result.json", dict(notebook="train", metrics={}, parameters={}, git="0", started="2026-01-01", seed=0, seconds=1, host=dict(cpu="c", cores=1), data={}))
        folder = weights.put_weights("own", "lifter", run, "text"); old = {f.name: f.read_bytes() for f in folder.iterdir()}
        if pid := os.fork(): assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        else:                                                                          # killed when the new weights are half written
            def half(state, path): Path(path).write_bytes(b"half"); os.kill(os.getpid(), signal.SIGKILL)
            weights.save_file = half; weights.put_weights("own", "lifter", run, "text"); os._exit(0)
        assert {f.name: f.read_bytes() for f in folder.iterdir()} == old and weights.part_folder("own", "lifter") == folder
        (folder / "model.safetensors").write_bytes(old["model.safetensors"][:-100])
        return message(weights.part_folder, "own", "lifter")


@fault("a clock that jumps", r"days back: curve of 0 to \d+ s, records in the order they were made", "the same weights; no duration below 0; records keep their order")
def clock_jumps(tmp):
    from mpst_nb import core
    store = small_store(tmp / "store"); _, undisturbed = training(store)
    real, now = time.time, [0.]
    def jump(): now[0] -= 3 * 86400.
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None): return datetime.fromtimestamp(real() + now[0], tz)
    with mock.patch("time.time", lambda: real() + now[0]), mock.patch.object(core, "datetime", Clock), mock.patch.dict(os.environ, MPST_RUNS=str(tmp / "runs")):
        curve, model = training(store, tmp / "run", step=lambda draw: Stops(draw, 3, jump))
        assert same(model, undisturbed) and all(0 <= p["seconds"] < 600 for p in curve)
        for seed in (0, 1, 2):
            with core.Run("train", dict(profile="quick", seed=seed)) as run: run.save({}, data={})
            jump()
        made = [r.params["seed"] for r in core.load_runs("quick", "train")]
        records = [r.record for r in core.load_runs("quick", "train")]
    assert made == [0, 1, 2] and records[0]["started"] > records[2]["started"] and all(0 <= r["seconds"] < 600 for r in records)
    return f"nothing; set {-now[0] / 86400:.0f} days back: curve of 0 to {curve[-1]['seconds']:.0f} s, records in the order they were made"


@fault("a notebook kernel that dies", r"the kernel of dies\.ipynb died: .*the same command goes on from there", "what it had kept")
def kernel_dies(tmp):
    import nbformat
    from mpst_nb.core import run_notebook
    cell = nbformat.v4.new_code_cell; tag = dict(metadata=dict(tags=["parameters"]))
    book = nbformat.v4.new_notebook(cells=[cell("from mpst_nb.core import *\nparameters_begin()"), cell("profile = 'quick'", **tag), cell("run = Run('dies', vars(parameters_end())).begin(); (run.folder/'last.pt').write_text('state')"),
                                           cell("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")])
    (tmp / "nbs").mkdir(); nbformat.write(book, tmp / "nbs" / "dies.ipynb")
    with mock.patch.dict(os.environ, MPST_NBS=str(tmp / "nbs"), MPST_RUNS=str(tmp / "runs")): said = message(run_notebook, "dies", {})
    assert (tmp / "runs" / "quick" / "dies" / "default" / "last.pt").exists() and not list(tmp.rglob("result.json"))
    return said


def _render_sequence(job): os.kill(os.getpid(), signal.SIGKILL)                       # what `worker_killed` has two processes do


@fault("a process that renders is killed for its memory", r"a process that renders was killed, perhaps since the memory was full: .*run this again", "what was finished")
def worker_killed(tmp):
    from mpst_nb.data.studio import render_all
    with mock.patch.object(sys, "stderr", io.StringIO()): return message(render_all, "faults", [1, 2], 2)


# ---- the table -------------------------------------------------------------------------------------------------------------------------------------------

def check(name):
    "Make a fault happen in a folder of its own; what it says, without that folder's name. Raises AssertionError if it is not what it should be."
    f, see, left = FAULTS[name]
    with tempfile.TemporaryDirectory() as tmp:
        Path(tmp).chmod(0o755)                                                        # `nobody` may look
        said = re.sub(r"/?\S*" + re.escape(Path(tmp).name), "…", f(Path(tmp)))
    assert re.search(see, said, re.S), f"{name}: says\n{said}\nand not {see}"
    return dict(fault=name, sees=said, left=left)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0]); p.add_argument("--record", help="JSON file for the table"); p.add_argument("names", nargs="*")
    a = p.parse_args(); rows, lost = [], 0
    for name in FAULTS:
        if a.names and not any(n in name for n in a.names): continue
        try: rows.append(check(name)); print(f"{name}\n    sees: {rows[-1]['sees']}\n    left: {rows[-1]['left']}", flush=True)
        except Exception as e: lost += 1; print(f"{name}\n    NOT AS IT SHOULD BE: {type(e).__name__}: {e}", flush=True)
    print(f"{len(rows)} of {len(rows) + lost} faults end as they should")
    if a.record and not lost:
        from mpst_nb.core import code_version, versions, write_json
        write_json(a.record, dict(command="python tests/faults.py", date=f"{datetime.now(timezone.utc):%Y-%m-%d}", faults=rows, versions=versions(), git=code_version()))
    sys.exit(bool(lost))


if __name__ == "__main__": sys.modules.setdefault("faults", sys.modules["__main__"]); main()
