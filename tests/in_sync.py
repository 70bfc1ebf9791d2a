"Exports every notebook to a scratch copy and says whether the package in the repository is what its notebooks export, and whether the notebooks are clean."
import filecmp, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def differences() -> list[str]:
    "One line for each module or notebook that `nbdev_export` and `nbdev_clean` would change."
    with tempfile.TemporaryDirectory() as d:
        copy = Path(d) / ROOT.name
        copy.mkdir()
        for name in ("nbs", "mpst_nb"): shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__"))
        shutil.copy(ROOT / "settings.ini", copy)
        for command in ("nbdev_clean", "nbdev_export"): subprocess.run([BIN / command], cwd=copy, check=True)
        here = lambda top: {f.relative_to(top) for n, s in (("nbs", "*.ipynb"), ("mpst_nb", "*.py")) for f in (top / n).rglob(s) if ".ipynb_checkpoints" not in f.parts}
        both = here(copy) | here(ROOT)
        same = lambda f: (copy / f).exists() and (ROOT / f).exists() and filecmp.cmp(copy / f, ROOT / f, shallow=False)
        return [str(f) for f in sorted(both) if not same(f)]


if __name__ == "__main__":
    changed = differences()
    if changed: sys.exit("not clean or not exported (run nbdev_clean and nbdev_export, and commit): " + ", ".join(changed))
    print("modules and notebooks are in step")
