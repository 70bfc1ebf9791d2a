"""One training in one, two and four processes, and with one and two threads: how far apart the losses come out, and whether evaluations are the same to the last digit.

    python tests/processes.py                  # 1, 2 and 4 processes over gloo on the CPU, 50 steps of five kinds of training
    python tests/processes.py --threads        # one process: the same seed twice, then 1 and 2 threads, and a GPU where there is one
    python tests/processes.py --short          # what pytest runs: 2 processes, 6 steps

A row `weights moved by 1e-7` is one process whose weights were moved by a rounding before it began: what a difference of that size grows to by itself. In float64, where nothing grows that
far, batch norm shows that the sums are the same. The global batch is the same whatever the number, and uneven on purpose: no share is as large as another. The data are noise, with sequences of three lengths. Processes are forked from
one that has imported everything, and find each other as those of torchrun do; `torchrun` itself and whole notebooks are in tests/test_processes.py.
"""
import argparse, os, pickle, socket, sys, tempfile, traceback
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"): os.environ.setdefault(name, "1")
os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import pandas as pd
import torch

NET = dict(size=16, dim=8, depths=(2, 1), heads=(1, 2), window=2, relation_depth=2, relation_heads=2, frames=4, identity_start=False)
KINDS = ("images", "clips", "tokens", "lifter", "batch norm", "batch norm, float64")


def noise_store(path, lengths=(9, 13, 7, 11, 5)):
    "Sequences of noise in four views, the last two for testing."
    from mpst_nb.camera import box_of, crop_affine, example_cameras
    from mpst_nb.data.clips import StoreWriter
    rng, cams, rows = np.random.default_rng(0), example_cameras(), []
    w = StoreWriter(path, dict(source="noise", lengths=lengths), 32, 36)
    for i, n in enumerate(lengths):
        key = f"S{i}-Walking-1"
        X = rng.normal(size=(n, 17, 3)) * 300 + [0, 0, 900]
        uv = np.stack([c.project(X) for c in cams])
        box = box_of(uv)
        A = crop_affine(box, 32)
        A[..., 2] += 2
        w.add(key, rng.integers(0, 255, (4, n, 36, 36, 3), dtype=np.uint8), X, uv, rng.random((4, n, 17)) < .7, A, box, cams, 50.)
        rows.append(dict(key=key, source="noise", subject=f"S{i}", action="Walking", trial=1, frames=n, fps=50., split="test" if i > 2 else "train"))
    return w.close(rows)


def in_processes(n, work, threads=1):
    "What `work()` gives in each of n processes that are forked here and joined as torchrun would join them; raises if one fails."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with tempfile.TemporaryDirectory() as d:
        children = []
        for rank in range(n):
            if (pid := os.fork()) == 0:
                code = 1
                try:
                    torch.set_num_threads(threads)
                    if n > 1: os.environ |= dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(n), LOCAL_WORLD_SIZE=str(n), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
                    out = work()
                    with open(f"{d}/{rank}", "wb") as f: pickle.dump(out, f)
                    if n > 1: torch.distributed.barrier()
                    code = 0
                except BaseException: traceback.print_exc()
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            children.append(pid)
        failed = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        if any(failed): raise RuntimeError(f"of {n} processes some failed: exit codes {failed}")
        return [pickle.load(open(f"{d}/{rank}", "rb")) for rank in range(n)]


def training(kind, store, steps, device="cpu", bend=False):
    "A training of that kind: its losses, its weights as one vector, and what it predicts on the test sequences with a seed's weights. `bend` moves each weight by a ten-millionth of itself first."
    from mpst_nb.core import pick_device, seed_everything
    from mpst_nb.data.clips import Augment
    from mpst_nb.fit import FitConfig, ImageSampler, TokenSampler, evaluate_detector, fit, predict_store, tokens_of
    from mpst_nb.models.detector import create_model
    from mpst_nb.processes import join_processes, ranks
    join_processes(pick_device(device))
    seed_everything(0)
    keys, test = store.keys(split="train"), store.keys(split="test")
    if kind == "lifter": return lifting(store, keys, steps, device, bend)
    common = dict(lr=1e-3, watch=steps, unit=1., augment=dict(shift=.05, colour=.2), warmup=.2)
    ours = kind in ("clips", "tokens")
    size = 32 if kind.startswith("batch norm") else 16
    config = FitConfig(batch=16 * 7 if ours else 11, drop_views=.3 if ours else 0., **common)     # 7 clips of 4 frames in 4 views, or 11 images
    if ours: model = create_model("mpst", **NET, drop_path=.2, relation_drop_path=.2)
    elif size == 16: model = create_model("baseline", **{k: v for k, v in NET.items() if k != "identity_start"}, drop_path=.2)
    else: model = create_model("hrnet_32", size=32, width=8, stem=8, bottleneck=8, head="heatmap", sigma=1.)
    if kind.endswith("float64"): model.double()
    if bend: move(model)
    model.eval()
    untrained = predict_store(model, store, test, 4 if ours else 1, size=size)
    metrics, rows = evaluate_detector(untrained, store)
    if kind == "tokens":
        for w in model.spatial.parameters(): w.requires_grad_(False)
        small = noise_tokens(model, store, keys)
        draw = TokenSampler(small, keys, config, 4, 0)
    else: draw = ImageSampler(store, keys, config, 4 if ours else None, 0, size=size)
    curve = fit(model, draw, config, steps, None, 0, None, device, progress=False)
    return dict(losses=[c["loss"] for c in curve], weights=vector(model), predictions=untrained, metrics=metrics, rows=rows)


def noise_tokens(model, store, keys):
    "Tokens as `tokens_of` would give them, in two copies; noise will do."
    rng = np.random.default_rng(3)
    make = lambda n, *shape: rng.normal(size=(2, 4, n, *shape)).astype(np.float32)
    return {k: dict(tokens=make(store.row(k)["frames"], model.config.width), target=make(store.row(k)["frames"], 17, 2), present=np.ones((2, 4, store.row(k)["frames"]), bool)) for k in keys}


def lifting(store, keys, steps, device, bend):
    "The same of the lifter, 33 windows a step."
    from mpst_nb.models.lifter import LifterConfig, LiftFitConfig, PoseFormer, fit_lifter
    views = [(store.sequence(k).joints2d[v], c.to_camera(store.sequence(k).joints3d.astype(float)), c.size) for k in keys for v, c in enumerate(store.sequence(k).cameras)]
    model = PoseFormer(LifterConfig(frames=5, dim=4, depth=2, heads=2, drop_path=.2))
    if bend: move(model)
    curve = fit_lifter(model, views, LiftFitConfig(windows=33 * steps, batch=33, lr=1e-3, every=1), 0, device=device)
    return dict(losses=[c["loss"] for c in curve], weights=vector(model))


@torch.no_grad()
def move(model):
    "Each weight by a ten-millionth of itself: what a rounding of the sums in another order may do to it."
    for p in model.parameters(): p.mul_(1 + 1e-7 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)).sign())


def vector(model): return torch.cat([p.detach().float().cpu().flatten() for p in model.state_dict().values()]).numpy()


def apart(a, b):
    "The largest relative difference of two lists of numbers."
    a, b = np.asarray(a, float), np.asarray(b, float)
    return float((np.abs(a - b) / np.maximum(np.abs(b), 1e-12)).max())


def same_evaluation(a, b):
    "Whether predictions, metrics and rows are equal to the last digit; None where there are none."
    if "predictions" not in b: return None
    return list(a["predictions"]) == list(b["predictions"]) and all(np.array_equal(a["predictions"][k], v) for k, v in b["predictions"].items()) and repr(a["metrics"]) == repr(b["metrics"]) and a["rows"].equals(b["rows"])


def compare(counts=(2, 4), steps=50, kinds=KINDS, threads=False):
    "A table with a row a kind and a number of processes (or threads), each against one process with one thread."
    with tempfile.TemporaryDirectory() as d:
        store, table = noise_store(Path(d) / "noise"), []
        for kind in kinds:
            work = lambda device="cpu": training(kind, store, steps, device)
            one, = in_processes(1, work)
            again = [("the same seed again", in_processes(1, work))] if threads else []
            if steps >= 20 and kind != "batch norm, float64": again.append(("weights moved by 1e-7", in_processes(1, lambda: training(kind, store, steps, bend=True))))
            others = again + [(f"{n} {'threads' if threads else 'processes'}", in_processes(*((1, work, n) if threads else (n, work)))) for n in counts]
            if threads and torch.cuda.is_available(): others.append(("GPU", in_processes(1, lambda: work("cuda"))))
            for name, all_ in others:
                table.append({"training": kind, "against one": name, "steps": len(one["losses"]), "losses apart, relative": apart(all_[0]["losses"], one["losses"]),
                              "weights apart": float(np.abs(all_[0]["weights"] - one["weights"]).max()), "ranks agree": all(np.array_equal(o["weights"], all_[0]["weights"]) and o["losses"] == all_[0]["losses"] for o in all_),
                              "evaluation equal": None if name.startswith("weights") else same_evaluation(all_[0], one)})
                print(table[-1], file=sys.stderr, flush=True)
    return pd.DataFrame(table)


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--threads", action="store_true", help="of one process: the same seed twice, 1 and 2 threads, a GPU where there is one")
    a.add_argument("--short", action="store_true", help="2 processes, 6 steps")
    a.add_argument("--steps", type=int, help="default: 50")
    a.add_argument("--json", help="write the table there too")
    a = a.parse_args()
    import mpst_nb.fit, mpst_nb.models.detector, mpst_nb.models.lifter, mpst_nb.models.rivals     # before any fork
    kinds = [k for k in KINDS if not a.short or k != "batch norm"]
    table = compare((2,) if a.short or a.threads else (2, 4), a.steps or (6 if a.short else 50), kinds, threads=a.threads)
    if a.json:
        from mpst_nb.core import code_version, host, versions, write_json
        write_json(a.json, dict(runs=table.to_dict("records"), git=code_version(), versions=versions(), host=host()))
    print(table.to_string(index=False, formatters={c: "{:.1e}".format for c in table if "apart" in c}))
    if a.threads and not torch.cuda.is_available(): print("there is no GPU here: devices were not compared")
