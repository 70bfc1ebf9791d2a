"The short form of tests/soak.py: a prediction of 4 x 960 frames, and what its judge says of made-up growth. The long form is `python tests/soak.py`."
import numpy as np

from soak import judge, soak


def looks(grow=0., leak=0, slow=0.):
    n = np.arange(500, 100_001, 500)
    rows = [(int(k), 500*(1+grow*k/1e5), 11+leak*int(k > 5e4), 6, 1+slow*k/1e5, 1.2, .1) for k in n]
    return dict(looks=rows, before=[0, 4, 5], after=[0, 4+leak, 5], seconds=1., cpu_seconds=1., peak_mib=600., joints_bytes=1)


def test_the_judge_sees_each_fault():
    said = lambda **kw: judge(looks(**kw), 100_000, (64, 48), "motion")["broken"]
    assert said() == [] and said(grow=.03, slow=.05) == []
    assert said(grow=.2) == ["memory grew"] and said(leak=1) == ["files were left open"] and said(slow=.3) == ["it became slower"]


def test_a_short_prediction_leaks_nothing():
    r = soak(960)
    assert not set(r["broken"]) - {"it became slower"}, r        # a second of work says little of speed
