"`mpst` as a shell sees it: exit codes, messages without tracebacks, nothing left half written."
import shutil, subprocess, sys
from pathlib import Path

import pytest

from mpst_nb.plan import paper_plan

ROOT = Path(__file__).resolve().parent.parent


def mpst(*args): return subprocess.run([sys.executable, "-m", "mpst_nb.cli", *map(str, args)], capture_output=True, text=True, timeout=120)


def test_help_names_every_command():
    done = mpst("--help")
    assert done.returncode == 0
    for name in ("reproduce", "run", "prepare", "report", "claims", "keep", "sample", "predict"): assert name in done.stdout


def test_plan_lists_every_step(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("MPST_CACHE", str(tmp_path / "cache"))
    done = mpst("reproduce", "--plan", "--cores", 2)
    assert done.returncode == 0, done.stderr
    for step in paper_plan("quick"): assert step.command in done.stdout


def test_snakemake_reads_the_same_plan(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("MPST_CACHE", str(tmp_path / "cache"))
    done = subprocess.run([sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "-n", "--cores", "2", "--config", "profile=quick"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    counted = [line.split() for line in (done.stdout + done.stderr).splitlines() if line.startswith("total")]
    assert counted and int(counted[0][1]) == len(paper_plan("quick")) + 1  # and the rule that asks for all of them


@pytest.mark.parametrize("args,message", [
    (["run", "trian"], "did you mean 'train'"),
    (["run", "train", "-p", "frmes", "128"], "did you mean 'frames'"),
    (["reproduce", "--profile", "quik", "--plan"], "did you mean 'quick'"),
    (["claims", "--profile", "demo"], "mpst"),
    (["keep", "--profile", "demo"], "mpst reproduce --profile demo"),
    (["prepare", "h36m", "--profile", "paper"], "under licence"),
    (["prepare", "h36m"], "mpst prepare h36m --profile paper"),
    (["predict", "nowhere.mp4", "--calibration", "nowhere.txt", "--out", "out"], "no trained network"),
])
def test_mistakes_are_one_message(runs, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    done = mpst(*args)
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.glob("out*"))


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    "Folders of networks as runs leave them: a detector and a lifter, whole; and a lifter whose weights, or configuration, are damaged."
    from mpst_nb.models.detector import create_model
    from mpst_nb.models.lifter import LifterConfig, PoseFormer
    d = tmp_path_factory.mktemp("networks")
    create_model("mpst", "quick").save_pretrained(d / "detector")
    PoseFormer(LifterConfig(frames=9, dim=8, depth=1, heads=2)).save_pretrained(d / "lifter")
    for name in ("no_weights", "bad_config"): shutil.copytree(d / "lifter", d / name)
    (d / "no_weights" / "model.safetensors").unlink()
    (d / "bad_config" / "config.json").write_text('{"dim": ')
    return d


@pytest.mark.parametrize("args,code,message", [
    (["--weights", "lifter"], 1, "holds no detector: its config.json is of a lifter"),
    (["--weights", "bad_config"], 1, "config.json is not valid JSON"),
    (["--weights", "nothing"], 1, "holds no detector"),
    (["--lifter", "detector"], 1, "holds no lifter: its config.json is of a detector"),
    (["--lifter", "no_weights"], 1, "model.safetensors is missing"),
    (["--lifter", "bad_config"], 1, "config.json is not valid JSON"),
    (["--weights", "detector", "--clip", "0"], 1, "--clip 0"),
    (["--weights", "detector", "--clip", "-1"], 1, "--clip -1"),
    (["--weights", "detector"], 1, "video nowhere.mp4 is not there"),
    (["--method", "foo"], 2, "dlt"),
    (["--box", "foo"], 2, "axes"),
])
def test_networks_and_options_are_checked_before_the_videos(runs, networks, tmp_path, monkeypatch, capsys, args, code, message):
    from mpst_nb.cli import main
    monkeypatch.chdir(tmp_path)
    words = ["predict", "nowhere.mp4", "--out", "out", *(str(networks / a) if i and args[i-1] in ("--weights", "--lifter") else a for i, a in enumerate(args))]
    if code == 2:
        with pytest.raises(SystemExit) as stopped: main(words)
        assert stopped.value.code == 2
    else: assert main(words) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said, said
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("words", [["report", "--cores", "0"], ["reproduce", "--plan", "--cores", "-1"], ["prepare", "h36m", "--workers", "two"]])
def test_cores_are_counted_in_whole_ones(words, capsys):
    from mpst_nb.cli import main
    with pytest.raises(SystemExit) as stopped: main(words)
    assert stopped.value.code == 2 and f"{words[-1]} should be a whole number, 1 or more" in capsys.readouterr().err


def test_report_from_kept_records_alone(runs, monkeypatch, capsys):
    "A machine without runs/: tables, claims and the page come from the repository's records; what needs predictions is named and stops nothing."
    from mpst_nb import cli
    from mpst_nb.report import Runs, decide_claims, fake_runs
    fake_runs("demo", (0, 1, 2), beyond=True)
    before = [(c.number, c.verdict.word) for c in decide_claims(Runs("demo"))]
    assert cli.main(["keep", "--profile", "demo"]) == 0 and "MB in all" in capsys.readouterr().out
    monkeypatch.setenv("MPST_RUNS", str(runs.parent / "elsewhere"))
    monkeypatch.setattr(cli, "_FROM_RECORDS", ("table3", "ablations", "fig4", "claims"))   # one of each kind
    assert cli.main(["report", "--profile", "demo"]) == 0
    said = capsys.readouterr()
    assert "not made fig4" in said.out and "only the record was kept" in said.err, said
    page = (runs.parent / "elsewhere" / "demo" / "report" / "index.html").read_text()
    assert page.count("<figure>") == 7 and "kept in the repository" in page     # six ablations, one of Table III
    kept = Runs("demo")
    assert [(c.number, c.verdict.word) for c in decide_claims(kept)] == before and kept.find("claims")[0].metrics["verdicts"]["holds"] > 8


def test_one_damaged_record_hides_nothing(runs, capsys):
    "Rows that cannot be read cost their own cells; the page says which file, and the claims are printed."
    from mpst_nb.report import Runs, claims_metrics, decide_claims, fake_runs, print_claims, write_report
    fake_runs("quick")
    lost = Runs("quick").detector("mpst")[0].path / "rows.parquet"
    lost.write_bytes(lost.read_bytes()[:100])
    runs_ = Runs("quick")
    page = write_report("quick").read_text()
    assert f"{lost} cannot be read" in page
    print_claims(claims_metrics(decide_claims(runs_), runs_))
    said = capsys.readouterr().out
    assert "mpst run train -p profile quick -p method mpst" in said and "At no real cost in time" in said
