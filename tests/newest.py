"""Which packages would be others with the newest versions that settings.ini allows? `python tests/newest.py` asks pip, installs nothing, and prints them, a line each: name, version here, newest allowed.
It ends with 0 if there is none, with 3 if there are some, and prints `skipped: ...` and ends with 0 if pip cannot ask."""
import json, subprocess, sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def newer() -> list[tuple]:
    "(name, version here or None, newest allowed) of each package that would change. Raises RuntimeError with pip's last words if it cannot say."
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--disable-pip-version-check", "--upgrade", "--upgrade-strategy", "eager", "--report", "-", f"{ROOT}[dev]"], capture_output=True, text=True)
    if done.returncode: raise RuntimeError((done.stderr.strip().splitlines() or ["pip said nothing"])[-1])
    here = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in metadata.distributions() if d.metadata["Name"]}
    would = [(i["metadata"]["name"], i["metadata"]["version"]) for i in json.loads(done.stdout)["install"]]
    return [(n, here.get(n.lower().replace("_", "-")), v) for n, v in would if n.lower().replace("_", "-") != "mpst-nb"]


if __name__ == "__main__":
    try: found = newer()
    except RuntimeError as e: print(f"skipped: pip cannot say which versions are the newest ({e})"); sys.exit(0)
    for name, old, new in found: print(f"{name} {old or 'not here'} -> {new}")
    if not found: print("the locked versions are the newest that settings.ini allows")
    sys.exit(3 if found else 0)
