"The graph on a cluster: what a job asks for, a real Slurm that loses a node (skipped where there is none), and a stand-in for Kubernetes. The whole graph through Slurm is tests/slurm_graph.py."
import json, os, re, shutil, subprocess, sys, time
from pathlib import Path

import pytest
import yaml

from mpst_nb.plan import paper_plan, step_log

ROOT = Path(__file__).resolve().parent.parent
SLURM = ROOT / "tests" / "slurm.sh"


def snakemake(*words, env=None, check=True):
    done = subprocess.run([sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *map(str, words)], cwd=ROOT, env=env or os.environ.copy(), capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def rules(text):
    "Name of a step -> the resources that Snakemake has read for it."
    found = re.findall(r"rule step_\d+_(\w+):\n(?:    .*\n)*?    resources: (.*)", text)
    return {name: dict(r.split("=", 1) for r in asked.split(", ")) for name, asked in found}


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_a_profile_asks_for_what_a_step_needs(name, runs, monkeypatch):
    pytest.importorskip(f"snakemake_executor_plugin_{name}", reason="needs the extra `cluster`")
    monkeypatch.setenv("MPST_CACHE", str(runs.parent / "cache"))
    asked = rules(snakemake("--dry-run", "--profile", ROOT / "profiles" / name, "--config", "profile=paper"))
    assert asked["train"]["gpu"] == "1" and "gpu" not in asked["table1"] and int(asked["train"]["mem_mb"]) > int(asked["table1"]["mem_mb"])
    assert {k: int(v["runtime"]) > 0 for k, v in asked.items()} == dict.fromkeys(asked, True)
    assert asked["train"]["disk_mb"] == "1000"                                              # not the 50 GB that Snakemake asks for where it knows nothing
    asked = rules(snakemake("--dry-run", "--profile", ROOT / "profiles" / name, "--config", "profile=quick", "gpus=2"))
    assert asked["train"]["gpu"] == "2" and "gpu" not in asked["data"]


def needs_kubernetes():
    for name in ("snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs"): pytest.importorskip(name, reason="needs the extra `cluster`")
    if not shutil.which("rsync"): pytest.skip("rsync is not installed: Snakemake's storage plugin copies with it")


def test_kubernetes_gets_jobs_with_a_gpu_and_limits(runs):
    needs_kubernetes()
    from kubernetes_stand_in import StandIn
    tmp = runs.parent
    env = os.environ | dict(MPST_CACHE=str(tmp / "cache"))
    with StandIn(tmp, env, run=False) as api:
        prefix = kubernetes_profile(tmp)
        (prefix / "marks/paper").mkdir(parents=True); (prefix / "marks/paper/data.json").write_text("{}")
        text = snakemake("--profile", tmp / "profile", "--config", "profile=paper", "--", "step_001_train", env=env | dict(KUBECONFIG=str(api.config)), check=False)
    assert len(api.jobs) == 1, text[-3000:]
    pod = next(iter(api.jobs.values())); box = pod["containers"][0]
    assert box["resources"]["limits"]["nvidia.com/gpu"] == "1" == box["resources"]["requests"]["nvidia.com/gpu"] and box["resources"]["limits"]["memory"] == "48000M"
    assert {"name": "mpst", "mountPath": "/mpst"} in box["volumeMounts"] and any(v.get("persistentVolumeClaim", {}).get("claimName") == "mpst" for v in pod["volumes"])
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu" and box["image"] == "mpst_nb:latest"


def kubernetes_profile(tmp):
    "The repository's profile with a storage folder of this test and no second tries; the folder."
    own = yaml.safe_load((ROOT / "profiles/kubernetes/config.yaml").read_text()) | {"default-storage-prefix": str(tmp / "storage"), "restart-times": 0, "seconds-between-status-checks": 1}
    (tmp / "profile").mkdir(); (tmp / "profile/config.yaml").write_text(yaml.safe_dump(own)); (tmp / "storage").mkdir()
    return tmp / "storage"


def test_kubernetes_jobs_do_their_work(runs):
    needs_kubernetes()
    from kubernetes_stand_in import StandIn
    tmp = runs.parent
    (tmp / "bin").mkdir(); (tmp / "bin/pip").write_text("#!/bin/sh\nexit 0\n"); (tmp / "bin/pip").chmod(0o755)                      # a pod fetches its storage plugin; this one is here
    env = os.environ | dict(MPST_CACHE=str(tmp / "cache"), MPST_ROOT=str(ROOT), OMP_NUM_THREADS="1", PATH=os.pathsep.join([str(tmp / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]))
    step = next(s for s in paper_plan("quick") if s.notebook == "fig2")
    with StandIn(tmp, env) as api:
        prefix = kubernetes_profile(tmp)
        rule = f"step_{[s.name for s in paper_plan('quick')].index(step.name):03d}_fig2"
        text = snakemake("--profile", tmp / "profile", "--config", "profile=quick", "--", rule, env=env | dict(KUBECONFIG=str(api.config)), check=False)
    logs = "".join(f.read_text() for f in (tmp / "pods").glob("*/log.txt"))
    assert list(api.ended.values()) == [0], text[-2000:] + logs[-3000:]
    assert json.loads((prefix / "marks/quick/fig2.json").read_text()) == json.loads(step.target.read_text())                        # the record on the volume, its copy in the storage


@pytest.fixture
def slurm(tmp_path, runs):
    "A real Slurm of two nodes on this machine, and the environment in which it is spoken to."
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs the extra `cluster`")
    for name in ("munged", "slurmctld", "slurmd"):
        if not shutil.which(name, path=os.environ["PATH"] + os.pathsep + "/usr/sbin"): pytest.skip(f"{name} is not installed: apt install slurm-wlm munge")
    if os.getuid(): pytest.skip("slurmd starts jobs as their owners and has to be root")
    folder = tmp_path / "slurm"
    subprocess.run([SLURM, "start", folder, "2", "1", "8000"], check=True, timeout=120)
    env = os.environ | dict(SLURM_CONF=str(folder / "slurm.conf"), PATH=f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", OMP_NUM_THREADS="1")
    yield folder, env
    subprocess.run([SLURM, "stop", folder], check=True, timeout=120)


def test_a_job_outlives_its_node(slurm, runs, monkeypatch):
    from slurm_graph import job_rows, profile_of
    folder, env = slurm
    monkeypatch.setenv("SLURM_CONF", env["SLURM_CONF"])
    plan = paper_plan("quick")
    i, step = next((i, s) for i, s in enumerate(plan) if s.notebook == "fig2")
    ask = lambda *words: subprocess.run(words, env=env, capture_output=True, text=True).stdout.strip()
    until = lambda what, seconds=180: next((r for _ in range(seconds) if (r := what()) or going.poll() is not None or time.sleep(1)), None)   # nothing where Snakemake ends before
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(runs.parent), "--profile", str(profile_of(runs.parent, 1)), "--config", "profile=quick", "--", f"step_{i:03d}_fig2"]
    with open(runs.parent / "out.txt", "w") as out: going = subprocess.Popen(words, env=env | dict(MPST_ROOT=str(ROOT)), stdout=out, stderr=subprocess.STDOUT)
    try:
        node = until(lambda: step_log(step).exists() and ask("squeue", "-h", "-t", "R", "-o", "%N"))
        assert node, (runs.parent / "out.txt").read_text()[-2000:]
        subprocess.run([SLURM, "lose", folder, node], check=True)
        assert until(lambda: ask("squeue", "-h", "-t", "PD", "-o", "%i")), "Slurm did not notice that its node was lost"
        ask("scontrol", "update", f"jobid={ask('squeue', '-h', '-t', 'PD', '-o', '%i')}", "starttime=now")                               # Slurm would wait for two minutes
        assert going.wait(timeout=300) == 0, (runs.parent / "out.txt").read_text()[-3000:]
    finally:
        if going.poll() is None: going.kill()
    ends = job_rows(folder.parent)
    assert [r["state"] for r in ends] == ["NODE_FAIL", "COMPLETED"] and ends[0]["job"] == ends[1]["job"] and ends[0]["node"] == node != ends[1]["node"]
    assert json.loads(step.target.read_text())["notebook"] == "fig2"
