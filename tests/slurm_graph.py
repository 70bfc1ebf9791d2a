"""The graph of the paper through a real Slurm of this machine, with a node that is lost and a job that is cancelled on the way; what comes out is compared with the same graph without Slurm.

    python tests/slurm_graph.py                                                  # a tiny version of the quick profile: some minutes
    python tests/slurm_graph.py --whole --data cache/studio-quick --against runs # the quick profile itself, on a data set that is there, against runs that are there
    ... --record data/results/robust/slurm.json                                  # keeps the figures

It needs what tests/slurm.sh needs (Debian's slurm-wlm and munge, root) and the extra `cluster`. All it writes is in a folder of its own (--folder; a temporary one by default).
"""
import argparse, json, math, os, platform, re, signal, subprocess, sys, tempfile, time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
SLURM = ROOT / "tests" / "slurm.sh"
TIMED = {"seconds", "seconds_epoch_S1", "images_per_second", "epoch_times", "keep_at_test", "bench", "times", "started", "finished", "git", "host", "versions"}
# what makes the quick profile tiny, in every process that the graph starts
SITE = """from dataclasses import replace
from mpst_nb import core, plan
plan.RIVAL_METHODS = ("vit_s",)
q = core.PROFILES["quick"]
core.PROFILES["quick"] = replace(q, studio=dict(subjects=("S1", "S8", "S9"), actions=("Walking", "SittingDown", "Photo", "Greeting"), trials=1, frames=40, fps=12.5, size=64), frames=(8, 32), ablations=(),
    fit=q.fit | dict(images={images}, keep_every=2.), relation=q.relation | dict(images=40_000, copies=1, keep_every=2.), lift=q.lift | dict(windows=1_000), epoch_images=128)
"""


def say(text): print(f"{datetime.now():%H:%M:%S}  {text}", flush=True)


def slurm(*words): return subprocess.run([str(SLURM), *map(str, words)], check=True)


def ask(*words):
    "What a command of Slurm's prints, by lines; nothing if it fails, as it does for a moment while a node is lost."
    done = subprocess.run(words, capture_output=True, text=True)
    return done.stdout.splitlines() if done.returncode == 0 else []


def jobs_now(state="RUNNING"):
    "(job, node, what it makes) of the jobs in that state."
    rows = [l.split("|", 2) for l in ask("squeue", "-h", "-t", state, "-o", "%i|%N|%k")]
    return [(int(i), node, re.sub(r"^rule_", "", what)) for i, node, what in rows]


def start_of(folder, env, **more):
    "`mpst reproduce` in the background, its output in a file."
    words = [str(BIN / "mpst"), "reproduce", "--profile", "quick", *(str(w) for k, v in more.items() for w in (f"--{k}", v))]
    return subprocess.Popen(words, cwd=ROOT, env=env, stdout=open(folder / "reproduce.txt", "a"), stderr=subprocess.STDOUT)


def profile_of(folder, cores):
    "profiles/slurm, with what this Slurm without accounts and database needs besides, and with more haste."
    import yaml
    own = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    own |= {"slurm-no-account": True, "slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 2, "seconds-between-status-checks": 3, "latency-wait": 10, "max-threads": cores,
            "slurm-logdir": str(folder / "slurm-logs"), "slurm-keep-successful-logs": True, "jobs": 8}
    (folder / "profile").mkdir()
    (folder / "profile" / "config.yaml").write_text(yaml.safe_dump(own))
    return folder / "profile"


def untimed(o):
    "A record without what differs between two runs of the same: times, hosts, dates, paths."
    if isinstance(o, dict): return {k: untimed(v) for k, v in o.items() if k not in TIMED and not isinstance(v, str)}
    if isinstance(o, list): return [untimed(v) for v in o]
    return o


def apart(a, b, where=""):
    "Where two records differ, to the last digit."
    if isinstance(a, dict) and isinstance(b, dict): return [d for k in sorted(set(a) | set(b)) for d in apart(a.get(k), b.get(k), f"{where}.{k}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b): return [d for i, (x, y) in enumerate(zip(a, b)) for d in apart(x, y, f"{where}[{i}]")]
    same = a == b or isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return [] if same else [f"{where}: {a!r} != {b!r}"]


def compare(one, other):
    "The metrics of all trainings and liftings that two folders of runs hold: how many, and what differs."
    found = {f: sorted(p.relative_to(f) for n in ("train", "lift") for p in (f / "quick" / n).glob("*/result.json")) for f in (one, other)}
    both = [p for p in found[one] if p in found[other]]
    read = lambda f, p: untimed(json.loads((f / p).read_text())["metrics"])
    return len(both), {str(p.parent): d for p in both if (d := apart(read(one, p), read(other, p)))}


def compare_files(one, other):
    "What two quick graphs hold, without times, as tests/kill.py compares it (records, rows, joints, weights, tables; no pictures, pages, logs, executed notebooks), less the bench and the claims, which bear what it measured: how many files, and what differs."
    from kill import contents, differences
    a, b = ({n: h for n, h in contents(f / "quick").items() if h and not n.startswith(("bench/", "claims/"))} for f in (one, other))
    return len(a), differences(b, a)


def went_on(runs, name):
    "Seconds of a training in all, and of the start that ended it: if that took less, it went on from what an earlier one had kept."
    r = json.loads((runs / "quick/train" / name / "result.json").read_text())
    return dict(trained_seconds=r["curve"][-1]["seconds"], last_start_seconds=r["seconds"])


def disturb(folder, going, events):
    "While the graph runs: once cancel a training that has left a checkpoint, once lose the node of another; and bring it back when its jobs were put back into the queue."
    lost = None
    while going.poll() is None:
        time.sleep(1)
        since = events["cancelled"]["at"] + 2 if "cancelled" in events else 0
        kept = [f.parent.name for f in (folder / "runs").glob("quick/train/*/*last*.pt") if f.stat().st_mtime > since]   # trainings that have left a state to go on from; what was cancelled has not again
        trains = [j for j in jobs_now() if "train" in j[2]]
        if kept and len(trains) == 1 and "cancelled" not in events:
            job, node, what = trains[0]
            subprocess.run(["scancel", str(job)], check=True)
            events["cancelled"] = dict(job=job, step=what, had_kept=kept, at=time.time()); say(f"cancelled job {job} ({what}) on {node}")
        elif "cancelled" in events and "lost" not in events and kept and (trains := [j for j in trains if j[0] > events["cancelled"]["job"]]):
            job, node, what = trains[0]
            victims = [j for j in jobs_now() if j[1] == node]
            slurm("lose", folder / "slurm", node); lost = time.time()
            events["lost"] = dict(node=node, jobs=[j[0] for j in victims], steps=[j[2] for j in victims], had_kept=kept); say(f"lost {node} with {len(victims)} job(s): {', '.join(j[2] for j in victims)}")
        elif "lost" in events and "back" not in events["lost"] and not ask("squeue", "-h", "-t", "RUNNING", "-w", events["lost"]["node"]):
            events["lost"]["noticed_after_seconds"] = round(time.time() - lost)
            slurm("back", folder / "slurm", events["lost"]["node"]); events["lost"]["back"] = True; say(f"{events['lost']['node']} is back, after {time.time()-lost:.0f} s")


def out_of_memory(folder):
    "Jobs that Slurm ended because they held more than they had asked for."
    return sorted({int(j) for f in (folder / "slurm").glob("slurmd-*.log") for j in re.findall(r"StepId=(\d+)\S* exceeded memory limit", f.read_text())})


def job_rows(folder):
    "Every end of every job, as Slurm wrote it down."
    rows = [dict(w.split("=", 1) for w in l.split() if "=" in w) for l in (folder / "slurm" / "jobs.txt").read_text().splitlines()]
    when = lambda s: datetime.fromisoformat(s) if s not in ("Unknown", "None") else None
    return [dict(job=int(r["JobId"]), state=r["JobState"], node=r["NodeList"], seconds=(when(r["EndTime"]) - when(r["StartTime"])).total_seconds() if when(r["StartTime"]) else 0., tres=r.get("Tres", "")) for r in rows]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--whole", action="store_true", help="the quick profile as it is, not a tiny version of it")
    p.add_argument("--data", type=Path, help="a prepared data set of the quick profile, so that it is not made again")
    p.add_argument("--against", type=Path, help="a folder of runs to compare with (default: the graph is run without Slurm, too)")
    p.add_argument("--nodes", type=int, default=2); p.add_argument("--cores", type=int, default=1, help="of a node"); p.add_argument("--images", type=int, default=2000, help="of the tiny trainings")
    p.add_argument("--calm", action="store_true", help="lose no node and cancel no job")
    p.add_argument("--folder", type=Path); p.add_argument("--record", type=Path)
    a = p.parse_args()
    folder = (a.folder or Path(tempfile.mkdtemp(prefix="slurm-graph-"))).resolve(); folder.mkdir(parents=True, exist_ok=True)
    env = os.environ | dict(MPST_RUNS=str(folder / "runs"), MPST_CACHE=str(folder / "cache"), OMP_NUM_THREADS="1", SLURM_CONF=str(folder / "slurm" / "slurm.conf"),
        PATH=f"{folder / 'slurm' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if not a.whole:
        (folder / "site").mkdir(); (folder / "site" / "sitecustomize.py").write_text(SITE.format(images=a.images))
        env["PYTHONPATH"] = os.pathsep.join([str(folder / "site"), *filter(None, [env.get("PYTHONPATH")])])
    (folder / "cache").mkdir()
    for part in ("anny", "bodies"):
        if (ROOT / "cache" / part).exists(): (folder / "cache" / part).symlink_to(ROOT / "cache" / part)
    if a.data: (folder / "cache" / "studio-quick").symlink_to(a.data.resolve())
    os.environ["SLURM_CONF"] = env["SLURM_CONF"]
    events, times = {}, {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    slurm("start", folder / "slurm", a.nodes, a.cores, 16000)
    going = None
    try:
        begun = time.time()
        going = start_of(folder, env, executor=profile_of(folder, a.cores))
        if not a.calm: disturb(folder, going, events)
        code = going.wait(); times["with"] = round(time.time() - begun)
    finally:
        if going and going.poll() is None:
            for p in [*psutil.Process(going.pid).children(recursive=True), going]: p.kill()
        slurm("stop", folder / "slurm")
    if a.against is None:
        say("the graph without Slurm")
        times["without"] = time.time()
        (folder / "plain-cache").mkdir()
        for part in ("anny", "bodies", "studio-quick"): (folder / "plain-cache" / part).symlink_to((folder / "cache" / part).resolve())  # the same data, its own tokens
        plain = start_of(folder, env | dict(MPST_RUNS=str(folder / "plain"), MPST_CACHE=str(folder / "plain-cache")), cores=a.nodes * a.cores)
        if plain.wait(): sys.exit(f"the graph without Slurm failed: see {folder / 'reproduce.txt'}")
        times["without"] = round(time.time() - times["without"]); say(f"it took {times['without']} s")
    for e in events.values() if not code else (): e["went_on"] = {n: went_on(folder / "runs", n) for n in e["had_kept"]}
    rows, ours = job_rows(folder), json.loads((folder / "runs/quick/log/reproduce.json").read_text())
    compared, differ = compare(a.against or folder / "plain", folder / "runs"); files, files_differ = compare_files(a.against or folder / "plain", folder / "runs")
    states = {s: sum(r["state"] == s for r in rows) for s in sorted({r["state"] for r in rows})}
    record = dict(graph="quick" if a.whole else "tiny quick", steps=ours["steps"], failed=ours["failed"], nodes=a.nodes, cores_a_node=a.cores, jobs=len({r["job"] for r in rows}), ends=states,
        events=events, out_of_memory=len(out_of_memory(folder)), ended_early=sum(n for s, n in states.items() if s != "COMPLETED"), seconds=times, seconds_of_jobs=round(sum(r["seconds"] for r in rows)),
        compared=compared, differ=differ, files=files, files_differ=files_differ, git=ours["git"], host=ours["host"], when=f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%MZ}",
        versions=dict(slurm=ask("sinfo", "-V")[0] if ask("sinfo", "-V") else "", snakemake=version("snakemake"), executor=version("snakemake-executor-plugin-slurm"), python=platform.python_version()))
    print(json.dumps(record, indent=1))
    if a.record:
        kept = json.loads(a.record.read_text()) if a.record.exists() else {}
        a.record.parent.mkdir(parents=True, exist_ok=True)
        a.record.write_text(json.dumps(kept | {record["graph"]: record}, indent=1) + "\n")
    fine = code == 0 and not ours["failed"] and not differ and not files_differ and compared and (a.calm or {"lost", "cancelled"} <= set(events))
    say(f"{'complete, and equal to the graph without Slurm' if fine else 'NOT as it should be'}; what was written is in {folder}")
    return 0 if fine else 1


if __name__ == "__main__": sys.exit(main())
