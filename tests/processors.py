"""A training again on a processor of another make: `python tests/processors.py runs/demo/train/NAME` holds a run of this machine beside the record of the same name
that the repository keeps, and writes it to data/results/robust/processors.json, beside what is there of other runs. Both must be of one recipe and one seed; the mean pose of
the training images, which no network touches, says whether their data are the same."""
import sys
from pathlib import Path

import numpy as np

from mpst_nb.core import MpstError, RunRecord, read_json, write_json
from mpst_nb.report import kept_folder

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ("AP", "AR", "PCK", "MSE", "MSE_seen", "MSE_hidden")


def beside(path: Path) -> dict:
    "What the kept record and the run at `path` say, and how alike their sequences are."
    here = RunRecord(path)
    kept = RunRecord(kept_folder(here.record["profile"]) / here.record["notebook"] / path.name)
    if kept.record["data"]["recipe"] != here.record["data"].get("recipe"): raise MpstError(f"{path} is of data of another recipe than {kept.path}.")
    if kept.record["host"]["cpu"] == here.record["host"]["cpu"]: raise MpstError(f"{path} was run on the same kind of processor ({here.record['host']['cpu']}) as {kept.path}.")
    rows = kept.rows().merge(here.rows(), on="key", suffixes=("_kept", "_here"))
    say = lambda r: dict(cpu=r.record["host"]["cpu"], git=r.record["git"], started=r.record["started"], data=r.record["data"]["hash"], **{k: r.metrics[k] for k in FIGURES}, mean_pose=r.metrics["mean_pose"])
    return dict(run=path.name, kept=say(kept), here=say(here), sequences=len(rows), correlation=float(np.corrcoef(rows.MSE_kept, rows.MSE_here)[0, 1]))


if __name__ == "__main__":
    found = beside(Path(sys.argv[1]).resolve())
    file = ROOT / "data/results/robust/processors.json"
    others = [r for r in (read_json(file) if file.exists() else []) if r["run"] != found["run"]]
    write_json(file, sorted([*others, found], key=lambda r: r["run"]))
    for k in FIGURES: print(f"{k:12}{found['kept'][k]:8.1f}{found['here'][k]:8.1f}")
    print(f"sequences' MSE correlate at {found['correlation']:.3f}")
