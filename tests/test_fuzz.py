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


FOUND = [       # cases that broke a reader once: (reader, case)
    ('calibration.read_cameras', ('contents', 1, [('set', 0.07315541803836823, 0.0, '\x14\U0005ec33y'), ('drop', 0.0, 0.0)])),
    ('calibration.read_cameras', ('contents', 8, [('set', 0.032999999821186066, 0.032999999821186066, None)])),
    ('people.read_people', ('contents', 4, [('array', 0.6585052013397217, 0.2925088405609131, 'inf')])),
    ('h36m.read_cameras', ('contents', 2, [('array', 0.4680747091770172, 0.20217753946781158, 'nan')])),
    ('files.read_npz', ('bomb', 0, 'torch_like')),
    ('verify_run', ('contents', 0, [('array', 0.5203679203987122, 0.3916592597961426, 'flat')])),
    ('profiles, parameters', ('bomb', 0, 'nul_value')),
    ('verify_run', ('contents', 1, [('set', 0.6510159373283386, 0.04944456368684769, [-2.070959705762856e-287, 8514036500528758.0, 1.35, 5.149343840747625e+16]), ('set', 0.42462873458862305, 0.0, -6362), ('array', 0.7156621813774109, 0.7731654644012451, 'less')])),
    ('profiles, parameters', ('bytes', 0, [('noise', 0.8052315711975098, b'^\x8c\xe1')])),
    ('predict.load_detector', ('contents', 0, [('set', 0.20000000298023224, 0.20000000298023224, 189633560)])),
    ('files.read_c3d', ('bytes', 0, [('over', 0.10351796448230743, b'\x00'), ('splice', 0.1081959530711174, 0.7257835865020752, 0.7257835865020752)])),
    ('fit checkpoint', ('contents', 0, [('drop', 0.9124191403388977, 0.07374010235071182), ('drop', 0.9124191403388977, 0.07374010235071182)])),
    ('rig.read_calibration', ('contents', 0, [('set', 0.029999999329447746, 0.15000000596046448, [-3.037666256707884e-27, 5.212344846788203e+16, -6.470570950047859e+16])])),
]


@pytest.mark.parametrize("name, case", FOUND)
def test_what_was_found_stays_mended(name, case, hostile, tmp_path):
    said = fuzz.once(next(r for r in READERS if r.name == name), tmp_path, hostile, case)
    assert said and said[0] in ("accepted", "refused"), said
