"""A prediction over a very long recording: does its memory grow, does it leak files, does it get slower? `python tests/soak.py` predicts four videos of 100,000 frames
(a second that repeats, decoded anew each time) in a process of its own, prints what it measured, writes data/results/robust/soak.json and ends with 1 if a bound is broken.

Two hundred times on the way it notes the memory that it holds, open files, the processor time of the frames and that of a fixed piece of work beside them. On a machine that others use as well, a frame's
processor time rises and falls with their load, and so does that of the fixed work: their ratio is what is compared between the first tenth and the last."""
import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
LOOKS = 200                                                         # at the process, spread over the frames
MEMORY, FILES, SLOWER = .05, 0, .10                                 # largest growth of memory, files left open, loss of throughput


def status():
    "(MiB that are its own, files that are open, threads) of this process. Pages of files, which the system takes and gives as others need memory, do not count."
    said = dict(l.split(":", 1) for l in open("/proc/self/status"))
    return int(said["RssAnon"].split()[0]) / 1024, len(os.listdir("/proc/self/fd")), int(said["Threads"])


class Watch:
    "Looks at the process while a network is used: call it with the frames that it saw."
    def __init__(self, model, every):
        import torch
        self.model, self.every, self.frames, self.looks = model, every, 0, []
        self.batch = torch.rand(1, *(getattr(model.config, k) for k in ("views", "frames")), *(model.config.size,) * 2, 3, generator=torch.Generator().manual_seed(0))
        self.hook, self.busy, self.began = model.register_forward_hook(self.seen), False, None

    def seen(self, *_):
        if self.busy: return
        if self.began is None: self.began = time.process_time(), time.time(); return    # the first clip: before it, the whole video was looked through for the person
        self.frames += self.model.config.frames
        if self.frames < self.every * (len(self.looks) + 1): return
        frames_cpu, frames_wall, self.busy = time.process_time() - self.began[0], time.time() - self.began[1], True
        start = time.process_time()
        for _ in range(2): self.model(self.batch)
        self.busy = False
        self.looks.append((self.frames, *status(), frames_cpu, frames_wall, time.process_time() - start))
        self.began = time.process_time(), time.time()


def inside(folder, frames, size, box):
    "Predict, watched; prints a line of JSON."
    import torch
    from mpst_nb.models.detector import create_model
    from mpst_nb.predict import _bench_videos, predict_videos
    torch.set_num_threads(1)
    videos, rig = _bench_videos(folder, frames, size)
    model = create_model("mpst", "quick", size=32, patch=4, dim=16, depths=(1, 1), heads=(1, 2), relation_depth=1, relation_heads=2)
    predict_videos(videos, rig, Path(folder) / "warm", frames=64, model=model, box=box, say=None, device="cpu")   # what is loaded once is loaded
    watch, before = Watch(model, frames / LOOKS), status()
    start = time.time(), time.process_time()
    predict_videos(videos, rig, Path(folder) / "out", model=model, box=box, say=None, device="cpu")
    watch.hook.remove()
    peak = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) / 1024
    joints = (Path(folder) / "out" / "joints3d.parquet").stat().st_size
    print(json.dumps(dict(looks=watch.looks, before=before, after=status(), seconds=time.time() - start[0], cpu_seconds=time.process_time() - start[1], peak_mib=peak, joints_bytes=joints)))


def judge(found, frames, size, box):
    "What was measured, and what of it breaks a bound."
    n, rss, files, threads, cpu, wall, fixed = np.array(found["looks"]).T
    assert n[-1] > .95 * frames and len(n) >= 15, f"the process was looked at {len(n)} times up to frame {n[-1]:.0f} of {frames}: nothing can be said"
    took = np.diff(n, prepend=0)
    warm = n > frames / 10
    tenth = lambda a, i: float(np.median(a[(n > frames * i / 10) & (n <= frames * (i + 1) / 10)]))
    cost = dict(wall=wall / took, cpu=cpu / took, ratio=cpu / took / fixed)
    fps = {k: [1 / tenth(c, i) for i in range(10)] for k, c in cost.items()}
    change = {k: v[-1] / v[0] - 1 for k, v in fps.items()}
    grown = float(rss[warm].max() / rss[warm].min() - 1)
    tail, lost = float(np.median(rss[n > frames * .9]) / np.median(rss[warm & (n <= frames * .2)]) - 1), int(found["after"][1] - found["before"][1])
    out = dict(frames=frames, views=4, size=list(size), box=box, looks=len(n), seconds=found["seconds"], cpu_seconds=found["cpu_seconds"], joints_bytes=found["joints_bytes"],
        memory=dict(after_warm_up_mib=float(rss[warm].min()), largest_mib=float(rss[warm].max()), range=grown, last_to_second_tenth=tail, peak_mib=found["peak_mib"], bound=MEMORY),
        files=dict(first=int(files[0]), last=int(files[-1]), most=int(files.max()), before=found["before"][1], after=found["after"][1], threads=[int(threads[0]), int(threads[-1])], bound=FILES),
        throughput=dict(frames_per_second=fps["wall"], frames_per_cpu_second=fps["cpu"], last_to_first_wall=change["wall"], last_to_first_cpu=change["cpu"], last_to_first_beside_fixed_work=change["ratio"], bound=SLOWER))
    broken = [w for w, bad in (("memory grew", not grown <= MEMORY), ("files were left open", lost > FILES or files[warm].max() > files[~warm].max()), ("it became slower", not change["ratio"] >= -SLOWER)) if bad]
    return out | dict(broken=broken)


def soak(frames, size=(64, 48), box="motion"):
    "Run it in a process of its own and judge it. Raises RuntimeError with what that process said if it fails."
    with tempfile.TemporaryDirectory() as tmp:
        code = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); from soak import inside; inside({tmp!r}, {frames}, {tuple(size)!r}, {box!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | dict(OMP_NUM_THREADS="1"))
    if done.returncode: raise RuntimeError(f"the measured process failed:\n{done.stderr}")
    return judge(json.loads(done.stdout.splitlines()[-1]), frames, size, box)


def show(r):
    "What was measured, in lines."
    m, f, t = r["memory"], r["files"], r["throughput"]
    print(f"4 x {r['frames']:,} frames of {r['size'][0]} x {r['size'][1]} px, box {r['box']}: {r['seconds'] / 60:.1f} min, {r['cpu_seconds'] / 60:.1f} min of processor time")
    print(f"memory      {m['after_warm_up_mib']:.0f} to {m['largest_mib']:.0f} MiB after the first tenth ({m['range']:+.1%}; bound {m['bound']:.0%}), last tenth to second {m['last_to_second_tenth']:+.2%}, peak with the writing of the results {m['peak_mib']:.0f} MiB")
    print(f"open files  {f['first']} at the first look, {f['last']} at the last; {f['before']} before and {f['after']} after the prediction; threads {f['threads'][0]} and {f['threads'][1]}")
    print(f"throughput  last tenth to first {t['last_to_first_beside_fixed_work']:+.1%} beside the fixed work (bound -{t['bound']:.0%}), {t['last_to_first_cpu']:+.1%} by processor time, {t['last_to_first_wall']:+.1%} by the clock")
    print(f"            frames a second by tenths: {' '.join(f'{v:.0f}' for v in t['frames_per_second'])}")
    print("broken: " + ", ".join(r["broken"]) if r["broken"] else "no bound is broken")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--frames", type=int, default=100_000)
    p.add_argument("--size", type=int, nargs=2, default=(64, 48), metavar=("W", "H"))
    p.add_argument("--box", default="motion", choices=["motion", "find", "axes"])
    p.add_argument("--out", default=ROOT / "data" / "results" / "robust" / "soak.json", help="where the record goes")
    a = p.parse_args()
    from mpst_nb.core import code_version, host, versions, write_json
    r = soak(a.frames, tuple(a.size), a.box)
    show(r)
    write_json(a.out, r | dict(git=code_version(), versions=versions(), host=host()))
    sys.exit(bool(r["broken"]))
