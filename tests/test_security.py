"What comes from strangers runs no code, leads out of no folder and is escaped where it is shown; the pages ask for nothing from outside; CI's own checks find what they look for."
import json, os, pickle
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

import audit
from fuzz_readers import small_detector

from mpst_nb.core import MpstError, Run, read_json, run_folder, write_json

ROOT = Path(__file__).resolve().parent.parent
EVIL = ["../../../etc/passwd", "<script>alert(1)</script>", '"><img src=http://x.invalid/a onerror=alert(1)>', "; rm -rf ~ #", "$(touch ran)", "a\n[b]", "{{ 7*7 }}"]


class Shell:
    "Pickles into a call of the shell."
    def __init__(self, target): self.target = target
    def __reduce__(self): return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("kind", ["pickle as safetensors", "pickle as bin", "torch file", "config that runs"])
def test_a_strangers_weights_run_nothing(tmp_path, kind):
    from mpst_nb.models.detector import read_weights
    from mpst_nb.predict import load_detector
    net, ran = tmp_path / "net", tmp_path / "ran"
    small_detector().save_pretrained(net)
    assert load_detector(net)[0].config.size == 32
    if kind == "pickle as safetensors": (net / "model.safetensors").write_bytes(pickle.dumps(Shell(ran)))
    if kind == "pickle as bin": (net / "model.safetensors").unlink(); (net / "pytorch_model.bin").write_bytes(pickle.dumps(Shell(ran)))
    if kind == "torch file": torch.save(dict(w=Shell(ran)), net / "net.pth")
    if kind == "config that runs": write_json(net / "config.json", read_json(net / "config.json") | dict(aggregate=f"__import__('os').system('touch {ran}')", relations="{{ 7*7 }}"))
    with pytest.raises(MpstError): read_weights(net / "net.pth") if kind == "torch file" else load_detector(net)
    assert not ran.exists()
    pickle.loads(pickle.dumps(Shell(ran))); assert ran.exists()          # Python's own loader would have run it


def test_a_strangers_arrays_run_nothing(tmp_path):
    from mpst_nb.core import load_npz
    from mpst_nb.data.files import read_npz
    from mpst_nb.data.h36m import load_arrays
    ran, evil = tmp_path / "ran", np.empty((), object)
    evil[()] = Shell(ran); np.savez(tmp_path / "a.npz", format=evil); np.save(tmp_path / "a.npy", evil)
    for read in (load_npz, read_npz, load_arrays):
        with pytest.raises(MpstError, match="a.npz"): read(tmp_path / "a.npz")
    with pytest.raises(MpstError, match="system"): load_arrays(tmp_path / "a.npy")
    assert not ran.exists()


@pytest.mark.parametrize("name", EVIL)
def test_names_lead_nowhere(tmp_path, monkeypatch, name):
    "Names of cameras, of sequences and of parameters: a file is written in its folder or not at all."
    monkeypatch.setenv("MPST_RUNS", str(tmp_path / "runs")); monkeypatch.chdir(tmp_path)
    for where in (dict(method=name), dict(data=name)):
        if name.isprintable(): assert run_folder("train", dict(profile="quick", **where)).parent == (tmp_path / "runs" / "quick" / "train").resolve()
        else:
            with pytest.raises(MpstError, match="cannot be printed"): run_folder("train", dict(profile="quick", **where))
    from mpst_nb.data.clips import _index_fault
    import pandas as pd
    index = pd.DataFrame([dict(key=name, source="s", subject="S1", action="a", trial=1, frames=1, split="test")])
    assert bool(_index_fault(index)) == ("/" in name)
    assert not (tmp_path / "ran").exists() and [p.name for p in tmp_path.iterdir() if p.name != "runs"] == []


def test_a_record_takes_no_file_of_another_folder(tmp_path, runs):
    from mpst_nb.report import Runs, fake_runs, report_html
    fake_runs("quick", skip=("vit_s", "vit_b", "hrnet_32", "hrnet_48"))
    (runs.parent / "secret.svg").write_text("<svg>secret</svg>")
    with Run("fig1", dict(profile="quick")) as run: run.save({}, figures=[dict(file="../../../../secret.svg", alt="a", caption="b")])
    found = Runs("quick")
    assert [n for n, _ in found.broken] == ["fig1/default"] and "no plain name" in found.broken[0][1]
    import base64
    assert base64.b64encode(b"<svg>secret</svg>").decode() not in report_html(found)


class Links(HTMLParser):
    "What a page would load, what it links to, and its scripts and handlers."
    def __init__(self, text): super().__init__(); self.loads, self.links, self.scripts, self.handlers, self.tags = [], [], 0, [], []; self.feed(text)
    def handle_starttag(self, tag, attrs):
        self.tags.append(tag); self.scripts += tag == "script"
        self.handlers += [f"{tag} {k}" for k, _ in attrs if k.startswith("on")]
        for k, v in attrs:
            if k in ("src", "srcset", "data", "poster", "action", "xlink:href", "background") or k == "href" and tag != "a": self.loads.append(v)
            elif k == "href": self.links.append(v)


def outside(links): return [l for l in links if not l.startswith(("data:", "#")) and "/" in l]


def test_the_report_shows_what_it_is_told_as_text(runs):
    "Records with markup in every word: none of it becomes a tag, and nothing is loaded."
    from mpst_nb.report import Runs, fake_runs, report_html
    fake_runs("quick", skip=("vit_s", "vit_b", "hrnet_32", "hrnet_48"))
    plain = Links(report_html(Runs("quick")))
    for i, file in enumerate(sorted((runs / "quick").glob("*/*/result.json"))):
        word = EVIL[1 + i % 2]
        write_json(file, read_json(file) | dict(git=word, protocol=word, versions={word: word}, host=dict(cpu=word, cores=2), data=dict(source="studio", name=word, hash=word)))
    (runs / "quick/train" / "method=<script>alert(2)<").mkdir()
    text = report_html(Runs("quick")); page = Links(text)
    assert (page.scripts, page.handlers, page.loads and outside(page.loads), outside(page.links)) == (0, [], [], []) and page.tags.count("img") == plain.tags.count("img")
    assert "&lt;script&gt;alert(1)" in text and "&lt;script&gt;alert(2)" in text and "default-src &#39;none&#39;" not in text and "default-src 'none'" in text
    rows = text[text.index('id="runs"'):]
    for what in ("<th>Seed</th>", "<th>Record, versions</th>", "&lt;script&gt;alert(1)&lt;/script&gt; &lt;script&gt;"): assert what in rows
    assert rows.count("<code>runs/quick/") + rows.count("/quick/train/") > 5            # every run says where its record lies


def test_the_page_of_a_prediction_shows_what_it_is_told_as_text(tmp_path):
    from mpst_nb.predict import JointsWriter, write_page
    with JointsWriter(tmp_path, EVIL[:2]) as w: w.add2d(0, np.full((2, 3, 17, 2), 5.)); w.add3d(0, np.ones((3, 17, 3)), np.ones((3, 17)), np.full((3, 17), 2))
    videos = [dict(camera=n, file=n, size=[4, 4], frames=3) for n in EVIL]
    about = dict(videos=videos, frames=3, fps=25., notes=EVIL, units=dict(joints3d=EVIL[1]), space="world", model=dict(folder=EVIL[2]))
    write_page(tmp_path, about); text = (tmp_path / "index.html").read_text(); page = Links(text)
    assert page.scripts == 1 and page.handlers == [] and outside(page.loads) == [] and outside(page.links) == []
    assert "<script>alert" not in text and "onerror=alert(1)>" not in text and "http://x.invalid" not in [*page.loads, *page.links]
    assert text.count("&lt;script&gt;alert(1)") >= 3 and "{{ 7*7 }}" in text


def test_no_source_evaluates_or_asks_a_shell():
    "The package calls no eval, no os.system, no shell, no unsafe loader; exec only on the cells of its own notebooks."
    import ast
    found = []
    for file in sorted((ROOT / "mpst_nb").rglob("*.py")):
        for n in ast.walk(ast.parse(file.read_text())):
            if not isinstance(n, ast.Call): continue
            name = ast.unparse(n.func); words = {k.arg: ast.unparse(k.value) for k in n.keywords}
            bad = name in ("eval", "os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.loads", "shelve.open", "yaml.unsafe_load", "joblib.load") or words.get("shell") == "True" or words.get("allow_pickle") == "True"
            bad |= name.endswith("torch.load") and words.get("weights_only") != "True" or name in ("tarfile.open", "shutil.unpack_archive") or name.endswith("extractall") or name == "yaml.load" and "NoDatesSafeLoader" not in words.get("Loader", "")
            bad |= name == "exec" and file.name != "core.py"
            if bad: found.append(f"{file.name}:{n.lineno}: {name}")
    assert found == []


def test_the_scan_finds_a_secret(tmp_path):
    key = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vX7zA9cE1gI3kM5"     # of the form of a token, and none
    (tmp_path / "a.py").write_text(f'word = "none"\ntoken = "{key}"\n'); (tmp_path / "b.txt").write_text("nothing here\n")
    assert any("a.py, line 2" in f for f in audit.secrets(["a.py", "b.txt"], tmp_path)) and audit.secrets(["b.txt"], tmp_path) == []


def test_the_audit_tells_a_hole_from_no_answer():
    hole = dict(name="a", version="1", vulns=[dict(id="X-1", fix_versions=["2"])])
    assert audit.judge(1, json.dumps(dict(dependencies=[hole])), "") == (["a 1: X-1, mended in 2"], "", 1)
    assert audit.judge(0, json.dumps(dict(dependencies=[dict(name="a", skip_reason="not found")])), "")[1].startswith("no service")    # pip-audit calls this no hole
    assert audit.judge(0, json.dumps(dict(dependencies=[dict(name="a", version="1", vulns=[])])), "") == ([], "", 1)
    assert audit.judge(1, "", "pip_audit._service.interface.ConnectionError: no route")[1].startswith("no service")
    with pytest.raises(RuntimeError): audit.judge(1, "", "TypeError: a bug")


def test_the_lock_names_versions_only_and_those_of_the_kept_records():
    lines = [l for l in (ROOT / "requirements.lock").read_text().splitlines() if not l.startswith("#")]
    assert all(l.count("==") == 1 and "/" not in l and "@" not in l for l in lines)
    lock = {n.lower().replace("_", "-"): v for n, v in (l.split("==") for l in lines)}
    for file in (ROOT / "data/results").glob("*/*/*/result.json"):
        said = json.loads(file.read_text()).get("versions") or {}
        assert {k: v for k, v in said.items() if lock.get(k, v) != v} == {}, file
