"""Files of one's own cameras that are damaged, of another shape, or do not go together: each is refused by name, with what to do, before anything is computed. `pytest -s tests/test_malformed.py` prints them all.
(Damaged calibrations are in nbs/25_data.calibration, damaged files out in test_files.py, damaged copies of Human3.6M in test_h36m_faults.py.)"""
import json

import cv2
import numpy as np
import pytest

from mpst_nb.camera import Camera, look_at
from mpst_nb.cli import main
from mpst_nb.core import MpstError
from mpst_nb.data.rig import VideoWriter, open_videos, write_calibration
from mpst_nb.people import read_people
from mpst_nb.skeleton import SKELETONS

VIEWS, SAID = ["left", "right"], []
XY = np.random.default_rng(0).uniform(50, 100, (17, 2)).round(1).tolist()


def row(camera="left", frame=0, **kw): return dict(camera=camera, frame=frame, box=[1, 2, 30, 40]) | kw
def both(*rows): return [*rows, row("right")]
def mm(**kw): return dict(frame_id=0, instances=[dict(keypoints=XY, keypoint_scores=[0.9] * 17, bbox=[[1, 2, 30, 40]], bbox_score=0.8) | kw])
def coco(**kw): return dict(images=[dict(id=i, file_name=f"{c}/000003.jpg") for i, c in enumerate(VIEWS)], annotations=[dict(image_id=i, bbox=[1, 2, 30, 40]) for i in (0, 1)]) | kw


HEAD = "camera,frame,x0,y0,x1,y1\n"
LINES = [  # what is wrong, its text, words of the message
    ("empty", "", "lacks the column camera, frame"), ("another table", "a,b\n1,2\n", "lacks the column"), ("no y1", "camera,frame,x0,y0,x1\n", "lacks the column y1"), ("an unknown camera", HEAD + "middle,0,1,2,3,4\n", "'middle'"),
    ("cut off in a line", HEAD + "left,0,1,2,3", "one is missing"), ("a word for a number", HEAD + "left,0,1,two,3,4\n", "line 2"), ("a frame below 0", HEAD + "left,-1,1,2,3,4\n", "frame '-1'"), ("half a frame", HEAD + "left,0.5,1,2,3,4\n", "frame '0.5'"),
    ("left and right of it exchanged", HEAD + "left,0,3,2,1,4\n", "no extent"), ("NaN for one side", HEAD + "left,0,nan,2,3,4\n", "one is missing"), ("nothing of a camera", HEAD + "left,0,1,2,3,4\n", "nobody in camera right"), ("infinite", HEAD + "left,0,1,2,inf,4\n", "no extent"),
]
JSONS = [
    ("cut off", '[{"camera": "left", "fra', "not valid JSON"), ("a number", "7", "no form known"), ("a table of something else", dict(a=[1]), "no form known"), ("an unknown camera", both(row("middle")), "'middle'"), ("no frame", both(dict(camera="left", box=[1, 2, 3, 4])), "no camera and frame"),
    ("a box of three numbers", both(row(box=[1, 2, 3])), "four numbers"), ("a box in words", both(row(box=["a", 2, 3, 4])), "should be numbers"), ("joints in words", both(row(keypoints=[["a", "b"]])), "no table of numbers"), ("joints of four numbers", both(row(keypoints=[[1, 2, 3, 4]])), "(joints, 2 or 3)"),
    ("11 joints", both(row(keypoints=XY[:11])), "11 joints are of no skeleton"), ("17 and 16 joints", both(row(keypoints=XY), row(frame=1, keypoints=XY[:16])), "16 and 17 joints"), ("results of COCO without images", [dict(image_id=1, bbox=[1, 2, 3, 4], score=0.5)], "which picture is whose"),
    ("COCO, an image twice", coco(images=[dict(id=0, file_name="left/1.jpg")] * 2), "twice"), ("COCO, no such image", coco(annotations=[dict(image_id=9, bbox=[1, 2, 3, 4])]), "no image 9"), ("COCO, a name without a number", coco(images=[dict(id=0, file_name="left/a.jpg")]), "which frame"),
    ("COCO, a name without a folder", coco(images=[dict(id=0, file_name="1.jpg")]), "which camera"), ("COCO, a box of three", coco(annotations=[dict(image_id=0, bbox=[1, 2, 3])]), "3 numbers"), ("COCO, joints of a horse", coco(annotations=[dict(image_id=i, keypoints=[5, 5, 2] * 3) for i in (0, 1)], categories=[dict(keypoints=["hoof", "mane", "tail"])]), "no skeleton known here (hoof"),
    ("COCO, names of another number", coco(annotations=[dict(image_id=i, keypoints=[5, 5, 2] * 3) for i in (0, 1)], categories=[dict(keypoints=["nose"])]), "names 1 joints and has 3"),
]
MMPOSE = [  # of camera left; that of camera right is whole
    ("cut off", '[{"frame_id": 0, "inst', "not valid JSON"), ("no instances", [dict(frame_id=0, instances=[]), dict(frame_id=1)], "no list of instances"), ("scores short", [mm(keypoint_scores=[0.9] * 16)], "17 keypoints have 16 scores"), ("NaN in a box", [mm(bbox=[[1, float("nan"), 3, 4]])], "one is missing"),
    ("a frame in words", [mm() | dict(frame_id="first")], "frame 'first'"), ("other joints than the other file", [mm(keypoints=XY[:16], keypoint_scores=[0.9] * 16)], "coco17"), ("an instance in words", [dict(frame_id=0, instances=["he"])], "no table"), ("nobody", [dict(frame_id=0, instances=[])], "nobody in camera left"),
    ("names of joints nobody knows", dict(meta_info=dict(keypoint_id2name={str(i): f"k{i}" for i in range(17)}), instance_info=[mm() | dict(frame_id=1)]), "no skeleton known"),
]


def refused(f, words, *about, path):
    with pytest.raises(MpstError) as e: f()
    text = str(e.value)
    assert words in text and text.rstrip().endswith((".", ")", "mp4")) and len(text) > 30, text
    SAID.append((*about, text.replace(f"{path}/", "")))


@pytest.mark.parametrize("what,text,words", LINES, ids=[w for w, *_ in LINES])
def test_a_table_of_boxes(tmp_path, what, text, words):
    (tmp_path / "b.csv").write_text(text)
    refused(lambda: read_people(tmp_path / "b.csv", VIEWS), words, "boxes.csv", what, path=tmp_path)


@pytest.mark.parametrize("what,text,words", JSONS, ids=[w for w, *_ in JSONS])
def test_people_as_json(tmp_path, what, text, words):
    (tmp_path / "p.json").write_text(text if isinstance(text, str) else json.dumps(text))
    refused(lambda: read_people(tmp_path / "p.json", VIEWS), words, "people.json", what, path=tmp_path)


@pytest.mark.parametrize("what,text,words", MMPOSE, ids=[w for w, *_ in MMPOSE])
def test_people_as_mmpose_has_them(tmp_path, what, text, words):
    (tmp_path / "left.json").write_text(text if isinstance(text, str) else json.dumps(text))
    (tmp_path / "right.json").write_text(json.dumps([mm()]))
    refused(lambda: read_people([tmp_path / "right.json", tmp_path / "left.json"], VIEWS), words, "mmpose", what, path=tmp_path)


def test_people_in_other_files(tmp_path):
    whole = json.dumps([mm()])
    for n in ("left", "left_2", "a", "b", "c"): (tmp_path / f"{n}.json").write_text(whole)
    (tmp_path / "left").mkdir(); (tmp_path / "x.txt").write_text("no"); (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00"); (tmp_path / "o").mkdir()
    (tmp_path / "o" / "v_000_keypoints.json").write_text(json.dumps(dict(persons=[])))
    at = lambda *names: [tmp_path / n for n in names]
    for what, names, words in [("not there", ["none.json"], "not there"), ("a folder without a frame", ["left"], "..._keypoints.json"), ("another kind of file", ["x.txt"], ".csv nor .json"), ("no text", ["bytes.csv"], "no text"),
                               ("two files of one camera", ["left.json", "left_2.json"], "same camera"), ("three files for two views", ["a.json", "b.json", "c.json"], "3 files of one camera"), ("one of two named", ["left.json", "a.json"], "matches no camera"), ("a frame that is not OpenPose's", ["o"], "no frame of OpenPose's")]:
        refused(lambda: read_people(at(*names), VIEWS), words, "files", what, path=tmp_path)
    (tmp_path / "w.json").write_text(json.dumps([row(keypoints=XY), row("right", keypoints=XY)]))
    refused(lambda: read_people(tmp_path / "w.json", VIEWS, "body25"), "17 joints and body25 has 25", "people.json", "another skeleton asked for", path=tmp_path)
    refused(lambda: read_people(tmp_path / "w.json", VIEWS, "coco71"), "did you mean 'coco17'", "people.json", "a skeleton nobody knows", path=tmp_path)


def test_joints_in_another_order_are_put_right(tmp_path):
    "Names say which joint is which: an order of the file's own is no fault."
    names, order = list(SKELETONS["coco17"].joints), np.random.default_rng(1).permutation(17)
    d = coco(annotations=[dict(image_id=i, keypoints=np.c_[np.array(XY)[order], [2] * 17].ravel().tolist()) for i in (0, 1)], categories=[dict(keypoints=[names[k] for k in order])])
    (tmp_path / "c.json").write_text(json.dumps(d))
    assert read_people(tmp_path / "c.json", VIEWS).found[0][3][0].points[:, :2].tolist() == XY


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    "Two videos of 20 frames, their calibration, and boxes."
    d = tmp_path_factory.mktemp("room")
    rig = [Camera(n, look_at(T, (0, 0, 900)), T, 140.0, (80, 60), (0, 0, 0), (0, 0), (160, 120), "none") for n, T in (("left", (3000, 500, 1500)), ("right", (-500, 3000, 1500)))]
    for c in rig:
        with VideoWriter(d / f"{c.name}.mp4", 25) as w:
            for t in range(20): w.add(cv2.circle(np.full((120, 160, 3), 90, np.uint8), (20 + 5 * t, 60), 9, (240, 240, 240), -1))
    write_calibration(d / "rig.json", rig)
    (d / "b.csv").write_text(HEAD + "left,0,20,20,120,100\nright,0,20,20,120,100\n")
    (d / "wide.json").write_text(json.dumps(dict(cameras=[c.to_dict() | dict(size=[160, 160]) for c in rig])))
    (d / "two.json").write_text(json.dumps([row(c, box=b) for c in VIEWS for b in ([1, 2, 30, 40], [60, 2, 90, 40])]))
    return d


def test_damaged_videos(room, tmp_path):
    whole = (room / "left.mp4").read_bytes()
    for name, data, words in [("cut off at its end", whole[:-200], "cut off"), ("cut off at half", whole[:len(whole) // 2], "cannot be read"), ("empty", b"", "cannot be read"), ("text", b"a letter", "cannot be read"), ("of no codec", whole.replace(b"avc1", b"zzzz"), "names no codec"),
                              ("half a picture", cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes()[:20], "cannot be read")]:
        path = tmp_path / "v.mp4"; path.write_bytes(data)
        refused(lambda: open_videos([path, room / "right.mp4"]), words, "video", name, path=tmp_path)
    path = tmp_path / "v.mp4"
    refused(lambda: open_videos([room / "left.mp4", room / "left.mp4"]), "given twice", "video", "given twice", path=room)
    refused(lambda: open_videos([tmp_path / "none.mp4"]), "not there", "video", "not there", path=tmp_path)
    with VideoWriter(path, 25) as w:
        for _ in range(40): w.add(np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8))
    data = bytearray(path.read_bytes()); at = len(data) // 2; data[at:at + 4000] = b"\x55" * 4000
    path.write_bytes(data)                              # damaged inside: told when it is reached, with the frame
    refused(lambda: list(open_videos([path])), "--frames", "video", "damaged inside", path=tmp_path)


WORDS = [  # what does not go together, words for `mpst predict`, words of the message
    ("an offset too few", ["--offsets", "0"], "1 values for 2 videos"), ("offsets in words", ["--offsets", "0", "soon"], "--offsets soon"), ("offsets that leave nothing", ["--offsets", "0", "400"], "no moment"), ("starts that nothing tells", ["--offsets", "auto", "--frames", "9"], "--offsets auto"),
    ("frames that are not there", ["--frames", "21"], "at most 20"), ("no frame", ["--frames", "0"], "at least one"), ("a person in words", ["--person", "he"], "CAMERA:X,Y"), ("a person of no camera", ["--person", "up:1,2"], "'up'"), ("a person, and no people", ["--person", "1,2", "--box", "axes"], "--box find"),
    ("joints that are boxes", ["--keypoints", "b.csv"], "no 2D joints"), ("a rule nobody knows", ["--keypoints", "k.json", "--rule", "nave"], "did you mean 'naive'"), ("boxes of another room", ["--boxes", "other.csv"], "'up'"), ("a size that is not the calibration's", ["--calibration", "wide.json"], "neither the same shape"),
    ("videos of other names", ["left.mp4", "x.mp4"], "no camera"), ("a camera missing in the calibration", ["left.mp4", "right.mp4", "third_right.mp4"], "a camera"), ("torchvision without weights", ["--box", "torchvision"], "fasterrcnn_resnet50_fpn_v2_coco"),
]


@pytest.mark.parametrize("what,words,says", WORDS, ids=[w for w, *_ in WORDS])
def test_words_that_do_not_go_together(room, tmp_path, monkeypatch, capsys, what, words, says):
    for f in room.iterdir(): (tmp_path / f.name).write_bytes(f.read_bytes())
    for n in ("x.mp4", "third_right.mp4"): (tmp_path / n).write_bytes((room / "left.mp4").read_bytes())
    (tmp_path / "other.csv").write_text(HEAD + "up,0,1,2,3,4\n"); (tmp_path / "k.json").write_text(json.dumps([row(c, keypoints=XY) for c in VIEWS]))
    monkeypatch.chdir(tmp_path); monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    videos = [w for w in words if w.endswith(".mp4")] or ["left.mp4", "right.mp4"]; rest = [w for w in words if not w.endswith(".mp4")]
    rest = rest if "--calibration" in rest else ["--calibration", "rig.json", *rest]
    boxes = [] if {"--box", "--keypoints", "--boxes", "--person"} & set(rest) else ["--boxes", "b.csv"]
    if what in ("a person in words", "a person of no camera"): boxes = ["--boxes", "two.json"]
    assert main(["predict", *videos, *rest, *boxes, "--out", "out"]) == 1
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said and not (tmp_path / "out").exists(), said
    SAID.append(("mpst predict", what, said.strip().splitlines()[-1].split("mpst: ")[-1].replace(f"{tmp_path}/", "")))


def test_all_of_them_in_a_table():
    "Each message is a sentence, and none speaks of Python; printed for who looks with -s."
    want = len(LINES) + len(JSONS) + len(MMPOSE) + len(WORDS) + 10 + 9
    if len(SAID) < want: pytest.skip("only where all of them were tried before")
    assert not [text for *_, text in SAID if "Traceback" in text or "object at 0x" in text or "<class" in text or len(text.split()) < 4]
    print(f"\n{len(SAID)} inputs that are refused:")
    for kind, what, text in SAID: print(f"  {kind:13} {what:38} {' '.join(text.split())[:150]}")
    assert len(SAID) == want >= 60 and len({(k, w) for k, w, _ in SAID}) == want
