# The graph of the paper. The steps and what they need are listed, explained and tested in nbs/54_plan.ipynb; this file runs them.
#   snakemake --cores 2 --config profile=quick        (`make reproduce` does this, and shows progress; seeds=0,1 runs some seeds only)
import shlex, sys
from mpst_nb.plan import paper_plan, step_log

PROFILE = config.get("profile", "quick")
PARTIAL = bool(int(config.get("partial", 0)))  # tables from whatever is there, when a run has failed
SEEDS = [int(s) for s in str(config["seeds"]).split(",")] if "seeds" in config else None
STEPS = paper_plan(PROFILE, SEEDS)

rule all:
    input: [str(s.target) for s in STEPS] if not PARTIAL else [str(s.target) for s in STEPS if s.notebook == "report"]

for i, step in enumerate(STEPS):
    rule:
        name: f"step_{i:03d}_{step.notebook}"
        input: [str(n.target) for n in step.needs if not PARTIAL or (step.drawn and n.drawn)]
        output: str(step.target)
        log: str(step_log(step))
        threads: step.threads
        priority: sum(step in s.needs for s in STEPS)  # what most wait for goes first
        params: command=f"{shlex.quote(sys.executable)} -m mpst_nb.cli {step.command.removeprefix('mpst ')}"
        shell: "OMP_NUM_THREADS={threads} {params.command} > {log:q} 2>&1"
