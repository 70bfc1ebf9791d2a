"""What CI asks of the sources beside the tests: no secret in a tracked file (detect-secrets), and no known hole in the locked packages (pip-audit, where a service that knows can be reached).
Prints a line a part, `skipped: ...` for what could not be asked, and ends with 1 for what was found. `python tests/audit.py [secrets] [packages]`"""
import json, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
#: hashes of data sets and weights, and pictures in notebooks, look like secrets to whoever only counts letters
LOOKS = ("HexHighEntropyString", "Base64HighEntropyString")


def secrets(files=None, root=ROOT) -> list[str]:
    "Places of tracked files that hold a key, a token or a password. Raises RuntimeError if the scan itself fails."
    if files is None: files = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    files = [f for f in files if f and (root / f).is_file() and Path(f).suffix not in (".parquet", ".safetensors", ".png", ".jpg", ".npz", ".lock")]
    without = [w for p in LOOKS for w in ("--disable-plugin", p)]
    done = subprocess.run([BIN / "detect-secrets", "scan", "--no-verify", *without, *files], cwd=root, capture_output=True, text=True)
    if done.returncode: raise RuntimeError(f"detect-secrets failed:\n{done.stderr}")
    return [f"{f}, line {s['line_number']}: {s['type']}" for f, found in json.loads(done.stdout)["results"].items() for s in found]


def judge(returncode, out, err) -> tuple:
    "(what was found, why nothing could be asked or '', how many packages were asked about) of pip-audit's answer. Raises RuntimeError for an answer that is none."
    try: held = json.loads(out)["dependencies"]
    except (ValueError, KeyError, TypeError):
        said = (err.strip().splitlines() or ["it said nothing"])[-1][:200]
        if any(w in err for w in ("ConnectionError", "ServiceError", "ConnectTimeout", "ReadTimeout", "Max retries", "Name or service", "timed out", "Failed to establish", "Tunnel connection", "HTTPError", "Connection refused")): return [], f"no service of known holes within reach ({said})", 0
        raise RuntimeError(f"pip-audit failed ({returncode}):\n{err}")
    asked = [d for d in held if "skip_reason" not in d]
    found = [f"{d['name']} {d['version']}: {v['id']}, mended in {', '.join(v['fix_versions']) or 'no version yet'}" for d in asked for v in d["vulns"]]
    return found, '' if asked else f"no service of known holes within reach: it knew none of {len(held)} packages", len(asked)


def packages(lock=ROOT / "requirements.lock") -> tuple:
    "`judge` of what pip-audit says of the lock."
    try: done = subprocess.run([BIN / "pip-audit", "-r", lock, "--no-deps", "--disable-pip", "--timeout", "10", "--progress-spinner", "off", "-f", "json"], capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired: return [], "no service of known holes answered in 10 minutes", 0
    return judge(done.returncode, done.stdout, done.stderr)


if __name__ == "__main__":
    parts, bad = sys.argv[1:] or ["secrets", "packages"], []
    if "secrets" in parts:
        found = secrets(); bad += found
        print(*[f"secret: {f}" for f in found] or ["no secret in a tracked file"], sep="\n")
    if "packages" in parts:
        found, skipped, asked = packages(); bad += found
        print(*[f"known hole: {f}" for f in found] or [f"skipped: {skipped}" if skipped else f"no known hole in {asked} packages"], sep="\n")
    sys.exit(bool(bad))
