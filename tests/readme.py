"Makes README.md from nbs/index.ipynb: its texts, and what its cells show. `python tests/readme.py` writes it; a test compares."
import json, re
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
    text = "\n\n".join(parts).replace("](images/", "](nbs/images/")
    return "<!-- made from nbs/index.ipynb by tests/readme.py: edit there -->\n\n" + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme())
