"The short form of tests/fuzz.py: some hundred damaged files through readers of every kind. The long form is `python tests/fuzz.py`."
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import fuzz
from fuzz_readers import READERS, Reader

from mpst_nb.core import MpstError

QUICK = ("calibration.read_cameras", "people.read_people", "h36m.read_cameras", "h36m videopose3d", "files.read_npz", "files.read_joints_json", "detector.read_weights", "checkpoint.Checkpoint", "profiles, parameters")


@pytest.fixture(scope="module")
def hostile(): return fuzz.bombs()


@pytest.mark.parametrize("name", QUICK)
def test_only_our_own_errors_come_out(name, hostile):
    row = fuzz.fuzz(next(r for r in READERS if r.name == name), 80, number=1, hostile=hostile)
    assert row["cases"] == 80 and row["own_errors"] > 0 and not row["broken"], row["kinds"]


def test_the_fuzzer_finds_what_is_wrong(hostile):
    "A reader that fails in each way: no such failure may count as a good answer."
    from mpst_nb.data.h36m import load_arrays
    def fail(how):
        def read(d, path):
            if how == "crash": return {}["no"]
            if how == "code": (d / fuzz.RAN).write_text("x")
            if how == "dies" and path.read_bytes() != hostile["magic_zip"]: import os; os.abort()
            if how == "memory": return bytearray(2 * fuzz.MEMORY)
            if how == "other": raise MpstError("refused")
            return load_arrays(path)
        return Reader(how, lambda d: (d / "a.npz").write_bytes(hostile["magic_zip"]) and None, read, ("*.npz",))
    said = {how: fuzz.fuzz(fail(how), 3, hostile=dict(empty=b"")) for how in ("crash", "code", "dies", "memory", "other")}
    assert [said[h]["broken"] for h in ("crash", "code", "dies", "memory", "other")] == [3, 3, said["dies"]["broken"] or -1, 3, 0] and said["other"]["own_errors"] == 3
    assert [said[h]["kinds"][0]["what"].split(":")[0] for h in ("crash", "code", "dies", "memory")] == ["CRASH", "CODE RAN", "DIED", "MEMORY"]
