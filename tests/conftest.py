import os, pty, shutil, subprocess, sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def runs(tmp_path, monkeypatch):
    "An empty folder for run records; and no records that the repository keeps, only the paper's tables."
    monkeypatch.setenv("MPST_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MPST_DATA", str(tmp_path / "data"))
    shutil.copytree(ROOT / "data" / "paper", tmp_path / "data" / "paper")
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    "A studio of three subjects and two actions, rendered once for all tests."
    from mpst_nb.data.studio import StudioConfig, prepare_studio
    config = StudioConfig(subjects=("S1", "S8", "S9"), actions=("Walking", "Posing"), trials=1, frames=28, fps=12.5)
    return prepare_studio(config, tmp_path_factory.mktemp("tiny") / "store", workers=1)


def in_terminal(*words, cwd=ROOT, **env):
    "A command as a person types it, with a terminal for its input and output: its exit code, and what was on the screen."
    master, slave = pty.openpty()
    done = subprocess.Popen([str(w) for w in words], cwd=cwd, env={**os.environ, **env}, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    screen = b""
    while True:
        try: part = os.read(master, 65536)
        except OSError: break               # how Linux says that nobody holds the other end any more
        if not part: break
        screen += part
    os.close(master)
    return done.wait(timeout=60), screen.decode(errors="replace")
