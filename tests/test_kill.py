"""The short form of `tests/kill.py`: a few kills over the kinds of work that end within seconds. The long form, with all kinds and the whole graph, is
`python tests/kill.py --kills 100 --disks 12`; its last record is data/results/robust/kill.json."""
import json, subprocess, sys

from conftest import ROOT


def long_form(tmp_path, *words):
    "The harness in a process of its own: one that has run nothing is what may fork."
    done = subprocess.run([sys.executable, ROOT / "tests/kill.py", *map(str, words), "--work", tmp_path / "work", "--record", tmp_path / "record.json"], capture_output=True, text=True)
    assert (tmp_path / "record.json").exists(), done.stdout + done.stderr
    return done, json.loads((tmp_path / "record.json").read_text())


def test_what_is_killed_ends_as_if_it_had_not_been(tmp_path):
    done, record = long_form(tmp_path, "--kills", 8, "--seed", 1, "--kinds", "train relations on tokens", "lift", "predict, replacing")
    assert done.returncode == 0, done.stdout
    assert sum(r["survived"] for r in record["kills"]) == 8 and all(r["times"] and not r["lost"] for r in record["kills"])


def test_the_record_lost_nothing():
    record = json.loads((ROOT / "data/results/robust/kill.json").read_text())
    assert sum(r["times"] for r in record["kills"]) >= 100 and not any(r["lost"] for r in record["kills"] + record["disks"])
