"""Have OpenSim read the TRC file of a prediction, and the C3D file where its build can, and hold every marker of every frame against the joints that were predicted.

    python -m venv /somewhere/opensim && /somewhere/opensim/bin/pip install opensim pandas pyarrow     # it wants an environment of its own
    mpst export out --formats trc,c3d
    /somewhere/opensim/bin/python tests/opensim_files.py out

Needs nothing of this package. Exit code 1 where something differs by more than a hundredth of a millimetre.
"""
import sys
from pathlib import Path

import numpy as np
import opensim
import pandas as pd


def markers(table):
    "Names, and (t, j, 3), of a table of OpenSim's."
    rows = [table.getRowAtIndex(i) for i in range(table.getNumRows())]
    return list(table.getColumnLabels()), np.array([[[row[j][k] for k in range(3)] for j in range(row.ncol())] for row in rows])


def main(folder):
    d = pd.read_parquet(folder / "joints3d.parquet"); n = d.joint.nunique()
    names, joints = list(d.joint[:n].astype(str)), d[["x", "y", "z"]].to_numpy(np.float64).reshape(-1, n, 3)
    y_up = joints[..., [1, 2, 0]]; names = [j.replace("/", "_") for j in names]
    files = [("TRC", opensim.TimeSeriesTableVec3(str(folder / "joints3d.y-up.trc")), y_up)]
    print(f"OpenSim {opensim.GetVersion()}")
    if hasattr(opensim, "C3DFileAdapter"): c3d = opensim.C3DFileAdapter(); files.append(("C3D", c3d.getMarkersTable(c3d.read(str(folder / "joints3d.c3d"))), joints))
    else: print("C3D: this build of OpenSim reads none")
    worst = 0.
    for what, table, wanted in files:
        found, X = markers(table); unit, rate = (table.getTableMetaDataString(k) for k in ("Units", "DataRate"))
        if found != names or X.shape != wanted.shape: sys.exit(f"{what}: {found} {X.shape}, and the prediction has {names} {wanted.shape}")
        off, gone = np.abs(X - wanted), np.isnan(wanted)
        print(f"{what}: {len(X)} frames of {len(found)} markers, in {unit}, {float(rate):g} a second; {np.nanmax(off):.4f} mm off at most; {gone.any(-1).sum()} joints missing, {(np.isnan(X) != gone).any(-1).sum()} of them not so, or others")
        worst = max(worst, np.nanmax(off), np.inf if unit != "mm" or not (np.isnan(X) == gone).all() else 0)
    sys.exit(bool(worst > .01))


if __name__ == "__main__": main(Path(sys.argv[1]))
