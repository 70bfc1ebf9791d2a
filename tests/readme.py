"""Makes README.md from nbs/index.ipynb: its texts, and what its cells show. `python tests/readme.py` writes it; a test compares.
`python tests/readme.py --renew` first runs that notebook and the one that tells the study on the records of data/results/, and notes how long the quick run in runs/ took, if there is one."""
import json, re, shutil, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def readme() -> str:
    "The README as the index notebook has it; pictures and notebooks are addressed from the root."
    parts = []
    for c in json.loads((ROOT / "nbs/index.ipynb").read_text())["cells"]:
        if c["cell_type"] == "markdown": parts.append("".join(c["source"]))
        for o in c.get("outputs", []):
            data = o.get("data", {})
            if "text/markdown" in data: parts.append("".join(data["text/markdown"]))
    text = re.sub(r"\]\((?=images/|paper\)|(?:paper/)?[\w.]+\.ipynb\))", "](nbs/", "\n\n".join(parts))
    return "<!-- made from nbs/index.ipynb by tests/readme.py: edit there -->\n\n" + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def sheets() -> list:
    "The pictures of the real recording that its record keeps: every tenth frame, and the worst."
    return sorted((ROOT / "data/results/demo/real/recording=one,weights=wild,method=dlt,other=True,seed=0").glob("*.jpg"))


def renew():
    "How long the quick run took, from runs/ to data/results/quick/, and the pictures of the real recording to nbs/images; then the notebooks whose outputs are kept, run on the records of data/results/ and cleaned."
    took = ROOT / "runs/quick/log/reproduce.json"
    if took.exists(): shutil.copy(took, ROOT / "data/results/quick/reproduce.json")
    for f in sheets(): shutil.copy(f, ROOT / f"nbs/images/real_{f.name}")
    bin = Path(sys.executable).parent
    for notebook in ("nbs/index.ipynb", "nbs/paper/study.ipynb"):
        subprocess.run([bin / "jupyter", "nbconvert", "--to", "notebook", "--execute", "--inplace", notebook], cwd=ROOT, check=True)
        subprocess.run([bin / "nbdev_clean", "--fname", notebook], cwd=ROOT, check=True)


if __name__ == "__main__":
    if "--renew" in sys.argv: renew()
    (ROOT / "README.md").write_text(readme())
