"Each fault of `tests/faults.py`, made on purpose: what is said, and what is left."
import pytest

from faults import FAULTS, check


@pytest.mark.parametrize("name", FAULTS, ids=lambda n: n.replace(" ", "-"))
def test_fault(name): check(name)


def test_the_record_has_every_fault():
    import json
    from conftest import ROOT
    kept = json.loads((ROOT / "data/results/robust/faults.json").read_text())
    assert [r["fault"] for r in kept["faults"]] == list(FAULTS), "python tests/faults.py --record data/results/robust/faults.json"
