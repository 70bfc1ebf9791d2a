import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    "An empty folder for run records."
    monkeypatch.setenv("MPST_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"
