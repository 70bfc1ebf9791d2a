"A training stopped after any step, and once more, and at the worst moments of writing, ends as one that nobody disturbed: weights, optimiser, curve, the best state, and the random numbers of whatever follows."
import json, os

import numpy as np
import pytest
import torch

from mpst_nb import checkpoint
from mpst_nb.checkpoint import Checkpoint
from mpst_nb.core import MpstError, pick_device, seed_everything
from mpst_nb.fit import FitConfig, TokenSampler, fit, save_weights
from mpst_nb.models.detector import create_model

NET = dict(size=16, dim=8, depths=(1, 1), heads=(1, 2), window=2, relation_depth=2, relation_heads=2, frames=4, identity_start=False, relation_drop_path=.3)
STEPS = 9


class Stopped(Exception): pass


def sampler(config, stop=None):
    "Tokens of noise, of two sequences in two copies, with lost views; it stops the training that draws the step `stop`."
    rng = np.random.default_rng(0)
    tokens = {k: dict(tokens=rng.normal(size=(2, 4, n, 16)).astype("f4"), target=rng.random((2, 4, n, 17, 2)).astype("f4"), present=np.ones((2, 4, n), bool)) for k, n in (("a", 9), ("b", 12))}
    draw = TokenSampler(tokens, ["a", "b"], config, 4, 3)

    class Stops:
        def __call__(self, step):
            if step == stop: raise Stopped
            return draw(step)
    return Stops()


def train(folder=None, stop=None, **more):
    "Whatever a training leaves, from the same beginning; None if it was stopped."
    seed_everything(1)
    model = create_model("mpst", **NET)
    config = FitConfig(**dict(batch=48, lr=1e-2, drop_views=.4, keep_every=0., watch=4, choose="best", warmup=.2) | more)
    looks = lambda: dict(MSE=-float(sum((p.detach() ** 2).sum() for p in model.head.parameters())))       # a judge that does not prefer the last
    try: curve = fit(model, sampler(config, stop), config, STEPS, folder, 5, looks, "cpu", progress=False, data="noise")
    except Stopped: return None
    return dict(weights={k: v.clone() for k, v in model.state_dict().items()}, curve=[{k: v for k, v in p.items() if k not in ("seconds", "data_share")} for p in curve], after=torch.rand(2)) | state(folder)


def state(folder):
    if folder is None: return {}
    held = torch.load(folder / "last.pt", weights_only=True)["state"]
    return dict(optimizer=held["optimizer"], best=held["at"]["best"], last=held["model"])


def same(a, b):
    if isinstance(a, torch.Tensor): return torch.equal(a, b)
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    got = train(tmp_path_factory.mktemp("whole"))
    assert got["best"]["step"] < STEPS and not same(got["weights"], got["last"])          # the judge chose, so that what is kept for it counts
    assert same(train(), {k: v for k, v in got.items() if k in ("weights", "curve", "after")})     # and keeping states changes nothing
    return got


@pytest.mark.parametrize("stop", range(1, STEPS))
def test_stopped_after_any_step(tmp_path, whole, stop):
    assert train(tmp_path, stop) is None
    assert same(train(tmp_path), whole)


def test_stopped_twice_and_a_state_lost(tmp_path, whole):
    "Steps are done again, from a state that is older than what was done."
    assert train(tmp_path, 3) is None
    (tmp_path / "last.pt").unlink()
    assert train(tmp_path, 6) is None
    assert same(train(tmp_path), whole)


def test_finished_but_not_recorded(tmp_path, whole):
    "Killed between the weights and the record: nothing is trained again, and everything is as it was."
    train(tmp_path)
    assert same(train(tmp_path, stop=STEPS - 1), whole)  # which would stop, were anything drawn


@pytest.mark.parametrize("moment", ["writing", "sealing", "first rename", "second rename"])
def test_stopped_while_a_state_is_written(tmp_path, whole, monkeypatch, moment):
    def die(*a): raise Stopped
    assert train(tmp_path, 4) is None
    seen, replace, save = [], os.replace, torch.save
    def counted(a, b):
        seen.append(b)
        if len(seen) == {"first rename": 1, "second rename": 2}[moment]: raise Stopped
        return replace(a, b)
    def half(obj, f): save(obj, f); f.write_bytes(f.read_bytes()[:2000]); raise Stopped
    with monkeypatch.context() as m:
        if moment == "writing": m.setattr(torch, "save", half)
        elif moment == "sealing": m.setattr(checkpoint, "seal", die)
        else: m.setattr(os, "replace", counted)
        assert train(tmp_path) is None
    assert same(train(tmp_path), whole)


@pytest.mark.parametrize("hurt", [("last",), ("last", "previous")])
def test_damaged_states(tmp_path, whole, capsys, hurt):
    assert train(tmp_path, 6) is None
    for name in hurt:
        file = tmp_path / f"{name}.pt"
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 4                        # one bit
        file.write_bytes(data)
    assert same(train(tmp_path), whole)
    said = [l for l in capsys.readouterr().err.splitlines() if "damaged" in l]
    assert len(said) == 1 and ("going on from the state before it, previous.pt" if len(hurt) == 1 else "all starts anew") in said[0], said


def test_scaler_goes_on():
    "The scale of fp16's loss, and how many steps it has been good for, are part of the state; on the CPU with torch's own scaler, as accelerate's is for GPUs."
    def run(steps, kept, stop=None):
        torch.manual_seed(0)
        net = torch.nn.Linear(4, 1)
        optimizer, scaler = torch.optim.AdamW(net.parameters(), lr=.1), torch.amp.GradScaler("cpu", init_scale=2.**20, growth_interval=3)
        if (state := kept.resume()): net.load_state_dict(state["net"]); optimizer.load_state_dict(state["optimizer"]); scaler.load_state_dict(state["scaler"])
        for step in range(state["step"] if state else 0, steps):
            if step == stop: return
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step)) * (1e6 if step == 4 else 1)          # one step that overflows
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16): loss = (net(x) ** 2).mean()
            scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()
            kept.keep(dict(step=step + 1, net=net.state_dict(), optimizer=optimizer.state_dict(), scaler=scaler.state_dict()))
        return dict(net=net.state_dict(), scaler=scaler.state_dict())
    import tempfile
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        undisturbed = run(12, Checkpoint(a, {}))
        run(12, Checkpoint(b, {}), stop=6)
        assert undisturbed["scaler"]["scale"] != 2. ** 20 and same(run(12, Checkpoint(b, {})), undisturbed)


def test_a_disk_that_is_full_does_not_stop_a_training(tmp_path, whole, monkeypatch, capsys):
    assert train(tmp_path, 3) is None
    def full(*a): raise OSError(28, os.strerror(28))
    with monkeypatch.context() as m:
        m.setattr(torch, "save", full)
        assert train(tmp_path, 6) is None
    assert torch.load(tmp_path / "last.pt", weights_only=True)["state"]["at"]["step"] == 2          # the third step was a look, which keeps nothing
    assert "No space left on device" in (said := capsys.readouterr().err) and "goes on meanwhile" in said
    assert same(train(tmp_path), whole)


def test_another_training_is_refused(tmp_path):
    assert train(tmp_path, 3) is None
    with pytest.raises(MpstError, match="another training: fit.lr was 0.01 and is 0.02"): train(tmp_path, lr=.02)
    held = torch.load(tmp_path / "last.pt", weights_only=True)
    torch.save(held | dict(format=1), tmp_path / "last.pt"); checkpoint.seal(tmp_path / "last.pt")
    with pytest.raises(MpstError, match="another version of this package"): train(tmp_path)


def test_weights_are_whole_or_as_before(tmp_path, monkeypatch):
    model = create_model("mpst", **NET)
    save_weights(model, tmp_path)
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    with monkeypatch.context() as m:
        m.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError(28, os.strerror(28))))
        with pytest.raises(MpstError, match="No space left"): save_weights(create_model("mpst", **NET), tmp_path)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before and json.loads(before["config.json"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_where_one_was_asked_for():
    with pytest.raises(MpstError, match="no CUDA GPU; use device='cpu' or 'auto'"): pick_device("cuda")
