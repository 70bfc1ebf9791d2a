"What no single notebook can say about the house: exports in step, tags in place, nothing of one machine in the files."
import ast, json, re, subprocess
from pathlib import Path

import pytest

from in_sync import differences
from readme import readme, sheets

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(f for f in (ROOT / "nbs").rglob("*.ipynb") if not any(p.startswith((".", "_")) for p in f.relative_to(ROOT).parts))
PAPERMILL = [f for f in NOTEBOOKS if f.parent.name == "paper" or f.name in ("train.ipynb", "lift.ipynb", "wild.ipynb", "real.ipynb", "strangers.ipynb")]


def cells(f): return json.loads(f.read_text())["cells"]
def source(c): return "".join(c["source"])


def test_package_is_what_the_notebooks_export():
    assert differences() == []


def test_readme_is_what_the_index_says():
    assert (ROOT / "README.md").read_text() == readme(), "run: python tests/readme.py (with --renew to take the records of the last quick run)"


def test_every_number_of_the_readme_is_a_record_s():
    "The cells of the index say now, of the records that are kept, what it shows; and every notebook is in its table."
    names = {}
    for c in cells(ROOT / "nbs/index.ipynb"):
        if c["cell_type"] != "code": continue
        *body, last = ast.parse(source(c)).body
        exec(compile(ast.Module(body, []), "index", "exec"), names)
        shown = ["".join(o["data"]["text/markdown"]) for o in c["outputs"] if "text/markdown" in o.get("data", {})]
        assert shown == [eval(compile(ast.Expression(last.value), "index", "eval"), names).data], "run: python tests/readme.py --renew"
    assert all(f.name in readme() for f in (ROOT / "nbs").glob("[0-9]*.ipynb"))


def test_pictures_of_the_real_recording_are_its_record_s():
    assert len(sheets()) == 2 and all(f.read_bytes() == (ROOT / f"nbs/images/real_{f.name}").read_bytes() for f in sheets()), "run: python tests/readme.py --renew"


def test_study_shows_the_claims_that_are_kept():
    from mpst_nb.core import read_json
    from mpst_nb.report import claims_markdown
    shown = ["".join(o["data"].get("text/markdown", "")) for c in cells(ROOT / "nbs/paper/study.ipynb") for o in c.get("outputs", []) if "data" in o]
    assert claims_markdown(read_json(ROOT / "data/results/demo/claims/default/result.json")["metrics"]) in shown, "run: python tests/readme.py --renew"


def test_robust_notebook_shows_the_records_that_are_kept():
    held = {n: json.loads((ROOT / f"data/results/robust/{n}.json").read_text()) for n in ("kill", "faults", "fuzz")}
    shown = "".join(json.dumps(c["outputs"]) for c in cells(ROOT / "nbs/70_robust.ipynb") if c["cell_type"] == "code")
    for text in (f"**{sum(r['times'] for r in held['kill']['kills'])} kills,", f"**{len(held['faults']['faults'])} faults end", f"**{held['fuzz']['total']['cases']:,} cases,"): assert text in shown, text


def test_claims_follow_from_the_records_that_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MPST_RUNS", str(tmp_path))
    from mpst_nb.core import read_json
    from mpst_nb.report import Runs, claims_markdown, claims_metrics, decide_claims
    runs = Runs("demo")
    again = claims_markdown(claims_metrics(decide_claims(runs), runs))
    assert again == claims_markdown(read_json(ROOT / "data/results/demo/claims/default/result.json")["metrics"])


def test_notebooks_show_the_networks_as_they_are():
    "Outputs are kept, and go stale when a profile changes."
    from ast import literal_eval
    from mpst_nb.core import profile
    from mpst_nb.models.detector import DetectorConfig
    shown = lambda name, code: next(literal_eval("".join(o["data"]["text/plain"])) for c in cells(ROOT / "nbs" / name) if code in source(c) for o in c["outputs"] if "data" in o)
    assert shown("40_models.detector.ipynb", "v != getattr(DetectorConfig(), k)") == {n: {k: v for k, v in profile(n).detector.items() if v != getattr(DetectorConfig(), k)} for n in ("quick", "demo", "paper")}
    d, drawn = DetectorConfig(**profile("quick").detector), shown("paper/fig2.ipynb", "shapes, out = trace(model, clip)")
    assert drawn["patch embedding"][1:] == ((d.size // d.patch) ** 2, d.dim) and drawn["aggregation"][1:] == (d.width,)


@pytest.mark.parametrize("f", PAPERMILL, ids=lambda f: f.stem)
def test_papermill_notebook(f):
    cs = cells(f)
    code = [source(c) for c in cs if c["cell_type"] == "code"]
    assert sum("parameters" in c["metadata"].get("tags", []) for c in cs) == 1
    assert cs[0]["cell_type"] == "raw" and "skip_exec: true" in source(cs[0])
    assert any("parameters_begin()" in c for c in code) and any("parameters_end()" in c for c in code)


@pytest.mark.parametrize("f", NOTEBOOKS, ids=lambda f: f.stem)
def test_notebook_reads_well(f):
    cs = cells(f)
    first = next(source(c) for c in cs if c["cell_type"] == "markdown")
    assert re.match(r"# .+\n>? ?", first), f"{f.name} does not begin with a title"
    longest = max((len(source(c).splitlines()) for c in cs if c["cell_type"] == "code"), default=0)
    assert longest <= 60, f"{f.name} has a code cell of {longest} lines"
    assert f.stat().st_size < 400_000, f"{f.name} is {f.stat().st_size/1e3:.0f} kB: draw smaller"


@pytest.mark.parametrize("f", NOTEBOOKS, ids=lambda f: f.stem)
def test_notebook_leaves_the_environment_as_it_was(f):
    "`nbdev_test` runs many notebooks in one process: what one leaves in `os.environ`, another one meets"
    code = "\n".join(source(c) for c in cells(f) if c["cell_type"] == "code")
    put = set(re.findall(r"(?m)^os\.environ\[['\"](\w+)['\"]\] *=", code))
    for names in re.findall(r"(?m)^os\.environ *\|= *dict\((.*)\)", code): put |= set(re.findall(r"(\w+)=", names))
    gone = {name for line in re.findall(r"\bdel (os\.environ.*)", code) for name in re.findall(r"environ\['(\w+)'\]", line)}
    assert put <= gone, f"{f.name} leaves {', '.join(sorted(put - gone))} set"


def test_no_path_of_a_machine_in_the_files():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode: pytest.skip("not a git checkout")  # a source archive has no list of tracked files
    bad = []
    for name in tracked.stdout.split():
        f = ROOT / name
        if f.suffix in {".py", ".ipynb", ".md", ".ini", ".yml", ".yaml", ""} and f.is_file() and f.name not in ("LICENSE", "test_project.py"):
            bad += [f"{name}: {m}" for m in re.findall(r"(?<![\w.])/(?:home|root|work|Users)/\w+[^\s\"']*", f.read_text(errors="ignore"))]
    assert bad == []
