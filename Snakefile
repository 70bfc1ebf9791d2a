# The graph of the paper. The steps and what they need are listed, explained and tested in nbs/54_plan.ipynb; this file runs them.
#   snakemake --cores 2 --config profile=quick        (`make reproduce` does this, and shows progress; seeds=0,1 runs some seeds only)
#   snakemake --profile profiles/slurm --config profile=paper      (on a cluster; `mpst reproduce --executor slurm` does this; see nbs/71_scale.ipynb)
import shlex, sys
from mpst_nb.core import folder, hold, make_folder
from mpst_nb.plan import paper_plan, step_log, step_resources

PROFILE = config.get("profile", "quick")
PARTIAL = bool(int(config.get("partial", 0)))  # tables from whatever is there, when a run has failed
SEEDS = [int(s) for s in str(config["seeds"]).split(",")] if "seeds" in config else None
GPUS = int(config["gpus"]) if "gpus" in config else None  # for each step that runs networks; by default as the profile needs
MARKS = workflow.storage_settings.default_storage_provider is not None  # Kubernetes: a copy of each record goes through Snakemake's storage in its place
LIMIT = "MPST_MEMORY={resources.mem_mb} " if workflow.remote_exec else ""  # MB that a job of a cluster may have, whatever its node has
STEPS = paper_plan(PROFILE, SEEDS)
if workflow.is_main_process and not workflow.dryrun:  # one at a time; a job on a cluster reads this file too
    LOG = folder("runs") / PROFILE / "log" / "snakemake.txt"
    make_folder(LOG.parent); hold(LOG, "snakemake")

def made(step): return f"marks/{PROFILE}/{step_log(step).stem}.json" if MARKS else str(step.target)
def asks(step, what): return lambda wildcards, attempt: step_resources(step, attempt, GPUS)[what]

rule all:
    input: [made(s) for s in STEPS] if not PARTIAL else [made(s) for s in STEPS if s.notebook == "report"]

# on Kubernetes a step whose record is there is not run again: its mark alone is missing
RUN = LIMIT + "OMP_NUM_THREADS={threads} {params.command} > {params.log:q} 2>&1"
RUN = "mkdir -p $(dirname {params.log:q}); [ -e {params.target:q} ] || " + RUN + " ; cp {params.target:q} {output:q}" if MARKS else RUN

for i, step in enumerate(STEPS):
    rule:
        name: f"step_{i:03d}_{step.notebook}"
        input: [ancient(made(n)) for n in step.needs if not PARTIAL or (step.drawn and n.drawn)]  # ancient: what is there is made again when `refresh` says so, not when a clock does
        output: made(step)
        log: [] if MARKS else str(step_log(step))
        threads: step.threads
        priority: sum(step in s.needs for s in STEPS)  # what most wait for goes first
        resources: **{what: asks(step, what) for what in step_resources(step, gpus=GPUS)}
        params: target=str(step.target), log=str(step_log(step)), command=f"{shlex.quote(sys.executable)} -m mpst_nb.cli {step.command.removeprefix('mpst ')}"
        shell: RUN
