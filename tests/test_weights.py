"The weights that come with the project: there, small, carded, loadable without a connection, and used by `mpst predict`."
import json, socket, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mpst_nb.models.weights import from_pretrained, list_weights, part_folder, weights_folder

BOX = [(n, p) for n, parts in list_weights().items() for p in parts]


def test_what_is_in_the_box():
    assert {"wild", "studio"} <= {n for n, _ in BOX} and ("wild", "finder") in BOX
    assert sum(f.stat().st_size for f in weights_folder().rglob("*") if f.is_file()) < 12e6


@pytest.mark.parametrize("name,part", BOX, ids=lambda x: x)
def test_it_loads_without_a_connection(name, part, monkeypatch):
    def refuse(*a, **k): raise OSError("no network here")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    model = from_pretrained(name, part)
    assert not model.training and all(torch.isfinite(w).all() for w in model.parameters())


def test_an_install_brings_them_along(tmp_path, monkeypatch):
    "Where there is no clone of the project, `from_pretrained` takes what pip puts beside Python: what setup.py names as data."
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "setup.py", "-q", "install_data", "--install-dir", tmp_path / "prefix"], cwd=root, check=True)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix")); monkeypatch.setenv("MPST_DATA", str(tmp_path / "none"))
    assert {(n, p) for n, parts in list_weights().items() for p in parts} == set(BOX) and weights_folder().is_relative_to(tmp_path)
    assert part_folder("wild").joinpath("README.md").read_bytes() == (root / "data/weights/wild/detector/README.md").read_bytes()


@pytest.mark.parametrize("name,part", BOX, ids=lambda x: x)
def test_its_card_says_what_the_record_says(name, part):
    folder = part_folder(name, part)
    card, origin = (folder / "README.md").read_text(), json.loads((folder / "origin.json").read_text())
    assert origin["git"] in card and origin["started"][:10] in card and "Limits" in card
    numbers = [v for v in _leaves(origin["metrics"]) if isinstance(v, float)]
    assert numbers and all(f"{v:.4g}" in card for v in numbers)


def _leaves(d): return [x for v in d.values() for x in _leaves(v)] if isinstance(d, dict) else [d]


def test_the_detector_tells_two_pictures_apart():
    from mpst_nb.data.studio import StudioConfig, Take
    model = from_pretrained("wild")
    take = Take("S9", "Walking", 1, StudioConfig(frames=2, fps=.5, size=model.config.size, margin=0.))
    frames = torch.from_numpy(np.stack([take.frame(i) for i in range(2)], 1)[None])
    with torch.no_grad(): xy = model(frames)[0].numpy()
    from mpst_nb.camera import apply_affine
    true = apply_affine(take.crop.astype(float), take.joints2d.astype(float))
    here, swapped = (np.linalg.norm(xy - t, axis=-1).mean() for t in (true, true[:, ::-1]))
    assert here < .12 * model.config.size and here < .9 * swapped, (here, swapped)  # px: in a room it has never seen, and better than the other frame's pose
