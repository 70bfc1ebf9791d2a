"""Files of Human3.6M that are wrong, in every form that is read: each is made here, damaged in one way, and must end in one `MpstError` that names the file, says what
is wrong with it and what to do. `pytest -s` prints them all. And files that mean harm: none of them runs anything, whoever reads it."""
import os, pickle, re, shutil, struct, zipfile
from pathlib import Path

import cdflib, h5py, numpy as np, pytest, torch

from mpst_nb.core import MpstError
from mpst_nb.data.h36m import FORMS, H36M_ACTIONS, WRITERS, load_arrays, make_sequence, open_h36m, read_cameras
from mpst_nb.data.h36m import _KARFLY_TO_17, _object, _save_cdf, write_metadata
from mpst_nb.data.motion import Motion
from mpst_nb.data.studio import studio_cameras
from mpst_nb.skeleton import SKELETONS

KINDS = ('truncated', 'shape', 'NaN', 'views', 'joints', 'subject')      # of damage, in every form; others stand under 'other'
V3, V2, ML, KA = 'data_3d_h36m.npz', 'data_2d_h36m_gt.npz', 'metadata.xml', 'human36m-multiview-labels-GTbboxes.npy'
MM, MC, MS = 'annotation_body3d/fps50/h36m_train.npz', 'annotation_body3d/cameras.pkl', 'h36m_train.pkl'
CD, C2, MB = 'S5/MyPoseFeatures/D3_Positions/Walking.cdf', 'S5/MyPoseFeatures/D2_Positions/Walking.54138969.cdf', 'h36m_sh_conf_cam_source_final.pkl'
H5, OTHER = 'S5/Walking-1/annot.h5', [16, *range(16)]                      # another order of 17 joints


def walk(subject, trial, action='Walking'):
    cameras, X = studio_cameras(subject), Motion(subject, action, trial)(np.arange(12)/50).joints*1000
    return make_sequence('studio', subject, action, trial, X, cameras, np.stack([c.project(X) for c in cameras]))


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    "Every form, whole, in a folder of its name."
    root, few = tmp_path_factory.mktemp('good'), [walk('S5', 1), walk('S5', 2), walk('S9', 1)]
    for form, write in WRITERS.items(): write(few, root/form)
    return root


# How files are damaged: each gives a function of the folder.

class Malicious:
    def __init__(self, target): self.target = target
    def __reduce__(self): return os.system, (f'touch {self.target}',)


def cut(name): return lambda d: (d/name).write_bytes((d/name).read_bytes()[:(d/name).stat().st_size//2])
def drop(name): return lambda d: (d/name).unlink()
def save_object(path, **d): np.savez(path, **{k: _object(v) for k, v in d.items()})
def put(x, i, value): x[i] = value
def swap(x, a, b): x[a], x[b] = x[b], x[a]
def nan_at(a, i): a[i] = np.nan; return a


def edit_npz(name, change):
    def damage(d): x = {k: v.item() for k, v in np.load(d/name, allow_pickle=True).items()}; change(x); save_object(d/name, **x)
    return damage


def edit_arrays(name, change):
    def damage(d): x = dict(np.load(d/name)); change(x); np.savez(d/name, **x)
    return damage


def edit_pkl(name, change):
    def damage(d): x = pickle.loads((d/name).read_bytes()); x = change(x) or x; (d/name).write_bytes(pickle.dumps(x))
    return damage


def edit_karfly(change):
    def damage(d): x = np.load(d/KA, allow_pickle=True).item(); change(x); np.save(d/KA, _object(x))
    return damage


def edit_h5(change):
    def damage(d):
        with h5py.File(d/H5, 'r+') as f: change(f)
    return damage


def edit_text(name, change): return lambda d: (d/name).write_text(change((d/name).read_text()))


def edit_cdf(name, change):
    def damage(d): x = np.asarray(cdflib.CDF(d/name).varget('Pose'))[0].astype(float); (d/name).unlink(); _save_cdf(d/name, change(x))
    return damage


def v3(change): return edit_npz(V3, lambda x: put(x['positions_3d']['S5'], 'Walking', change(x['positions_3d']['S5']['Walking'])))
def v2(change): return edit_npz(V2, lambda x: put(x['positions_2d']['S5'], 'Walking', change(x['positions_2d']['S5']['Walking'])))
def points(change): return edit_karfly(lambda x: put(x['table'], 'keypoints', change(x['table']['keypoints'])))
def each(change): return edit_pkl(MS, lambda x: [change(r) for r in x] and None)
def camera_pose(change): return each(lambda r: r.update(joints_3d_camera=change(r['joints_3d_camera'])))
def mb(key, change): return edit_pkl(MB, lambda x: put(x['train'], key, change(x['train'][key])))
def without(subject): return lambda d: write_metadata(d/ML, {s: studio_cameras(s) for s in ('S5', 'S9') if s != subject})


def places(change):
    "The camera table of metadata.xml, (300,) numbers as text, changed."
    return edit_text(ML, lambda t: re.sub(r'\[.*\]', lambda m: '[' + ' '.join(change(m.group()[1:-1].split())) + ']', t))


def shorter_table(x):
    "karfly's poses with a joint less."
    t = x['table']; new = np.zeros(len(t), [(n, t.dtype[n].base, (16, 3) if n == 'keypoints' else t.dtype[n].shape) for n in t.dtype.names])
    for n in t.dtype.names: new[n] = t[n][:, :16] if n == 'keypoints' else t[n]
    x['table'] = new


def swap_h5(f): c = f['camera'][()]; f['camera'][...] = np.where(c == 54138969, 55011271, np.where(c == 55011271, 54138969, c))
def resize_h5(f): x = f['pose/3d'][:, :17]; del f['pose/3d']; f['pose/3d'] = x
def turn_h5(f): f['pose/3d'][...] = f['pose/3d'][()][:, ::-1]


def swap_ms(x):
    by = {(r['subject'], r['camera_id']): r['camera'] for r in x}
    for r in x: r['camera'] = by[r['subject'], [1, 0, 2, 3][r['camera_id']]]


# form, kind: what is done, how, and words that the message must hold.
VARIANTS = [
    ('videopose3d', 'truncated: poses', cut(V3), 'the end of the archive is missing'),
    ('videopose3d', 'truncated: 2D', cut(V2), 'cannot be read'),
    ('videopose3d', 'truncated: cameras', cut('h36m_dataset.py'), 'cannot be read as VideoPose3D'),
    ('videopose3d', 'shape: 31 joints', v3(lambda a: a[:, :31]), 'should be (frames, 32, 3)'),
    ('videopose3d', 'shape: 16 joints in 2D', edit_npz(V2, lambda x: x['metadata'].update(num_joints=16)), 'holds 16 joints a pose'),
    ('videopose3d', 'shape: 2D too short', v2(lambda v: [a[:9] for a in v]), 'has 9 frames, the poses have 12'),
    ('videopose3d', 'shape: no frame', v3(lambda a: a[:0]), 'should be (frames, 32, 3)'),
    ('videopose3d', 'NaN: poses', v3(lambda a: nan_at(a, (3, 1))), '1 of 12 frames have 3D joints that are NaN'),
    ('videopose3d', 'NaN: 2D', v2(lambda v: [nan_at(a, (0, 0)) for a in v]), '2D joints are NaN'),
    ('videopose3d', 'NaN: infinite', v3(lambda a: np.where(np.arange(12)[:, None, None] == 5, np.inf, a)), 'frame 5 first'),
    ('videopose3d', 'views: two swapped', v2(lambda v: [v[1], v[0], v[2], v[3]]), 'views are in another order'),
    ('videopose3d', 'views: three', v2(lambda v: v[:3]), '3 views of 2D joints and 4 cameras'),
    ('videopose3d', 'joints: from the last to the first', v3(lambda a: a[:, ::-1]), 'another order'),
    ('videopose3d', 'joints: left and right swapped', v3(lambda a: a[:, SKELETONS['h36m32'].mirror]), 'left and right joints are swapped'),
    ('videopose3d', 'subject: not in the 2D', edit_npz(V2, lambda x: x['positions_2d'].pop('S5')), 'no S5 at all'),
    ('videopose3d', 'subject: not in the cameras', edit_text('h36m_dataset.py', lambda t: t.replace("'S5'", "'S6'")), 'and no S5'),
    ('videopose3d', 'subject: none that is known', edit_npz(V3, lambda x: put(x, 'positions_3d', {'S2': {}})), 'holds no subject of Human3.6M'),
    ('videopose3d', 'other: no positions_3d', lambda d: np.savez(d/V3, x=1), "has no 'positions_3d'"),
    ('videopose3d', 'other: code in the file', lambda d: save_object(d/V3, positions_3d=Malicious('x')), 'asks for posix.system'),
    ('videopose3d', 'other: millimetres', v3(lambda a: a*1000), '1000 times too large'),
    ('videopose3d', 'other: unknown name', edit_npz(V3, lambda x: x['positions_3d']['S5'].update({'Walking 7': 0})), "no sequence 'Walking 7'"),
    ('videopose3d', 'other: a sequence by two names', edit_npz(V3, lambda x: x['positions_3d']['S5'].update({'Walking_1': 0})), 'holds S5-Walking-1 twice'),
    ('karfly', 'truncated: labels', cut(KA), 'cannot be read'),
    ('karfly', 'shape: 16 joints', edit_karfly(shorter_table), 'poses of shape (16, 3)'),
    ('karfly', 'NaN: poses', edit_karfly(lambda x: x['table']['keypoints'].fill(np.nan)), 'NaN or infinite'),
    ('karfly', 'views: cameras in another order', edit_karfly(lambda x: swap(x['camera_names'], 0, 1)), 'in this order'),
    ('karfly', 'joints: our order', points(lambda a: a[:, _KARFLY_TO_17]), 'another order'),
    ('karfly', 'subject: without a name', edit_karfly(lambda x: x['subject_names'].pop()), 'has no name'),
    ('karfly', 'other: no table', edit_karfly(lambda x: x.pop('table')), 'has no table'),
    ('karfly', 'other: metres', points(lambda a: a/1000), '1000 times too small'),
    ('karfly', 'other: mirrored camera', edit_karfly(lambda x: put(x['cameras']['R'], (0, 0, 0), -x['cameras']['R'][0, 0, 0])), 'not a rotation'),
    ('karfly', 'other: a frame twice', edit_karfly(lambda x: x['table']['frame_idx'].fill(3)), 'frame numbers'),
    ('karfly', 'other: code in the file', lambda d: np.save(d/KA, _object(Malicious('x'))), 'asks for posix.system'),
    ('microsoft', 'truncated: records', cut(MS), 'cannot be read'),
    ('microsoft', 'shape: 16 joints', camera_pose(lambda a: a[:16]), 'should be (frames, 17, 3)'),
    ('microsoft', 'NaN: poses', edit_pkl(MS, lambda x: x[0]['joints_3d_camera'].fill(np.nan)), 'NaN or infinite'),
    ('microsoft', 'views: cameras swapped', edit_pkl(MS, swap_ms), 'disagree about the world'),
    ('microsoft', 'views: one missing', edit_pkl(MS, lambda x: [r for r in x if r['camera_id'] != 2]), 'no record of S5 is of camera 58860488'),
    ('microsoft', 'joints: another order', camera_pose(lambda a: a[OTHER]), 'another order'),
    ('microsoft', 'subject: none that is known', each(lambda r: r.update(subject=2)), 'holds no subject of Human3.6M'),
    ('microsoft', 'other: no pose of the camera', edit_pkl(MS, lambda x: x[5].pop('joints_3d_camera') is None or None), 'record 5 has no joints_3d_camera'),
    ('microsoft', 'other: action 1', edit_pkl(MS, lambda x: x[0].update(action=1)), 'has action 1'),
    ('microsoft', 'other: retargeted poses', camera_pose(lambda a: a*.9), 'views disagree about the world'),
    ('microsoft', 'other: images of other frames', each(lambda r: r.update(image=r['image'].replace('_0000', '_0009'))), 'would be of other frames'),
    ('microsoft', 'other: code in the file', lambda d: (d/MS).write_bytes(pickle.dumps([Malicious('x')])), 'asks for posix.system'),
    ('mmpose', 'truncated: annotations', cut(MM), 'cannot be read'),
    ('mmpose', 'truncated: cameras', cut(MC), 'cannot be read'),
    ('mmpose', 'shape: 16 joints', edit_arrays(MM, lambda x: put(x, 'S', x['S'][:, :16])), 'should be (frames, 17, 3)'),
    ('mmpose', 'shape: fewer poses than names', edit_arrays(MM, lambda x: put(x, 'S', x['S'][1:])), '95 poses'),
    ('mmpose', 'NaN: poses', edit_arrays(MM, lambda x: put(x['S'], (0, 2), np.nan)), 'NaN or infinite'),
    ('mmpose', 'views: cameras swapped', edit_pkl(MC, lambda x: [swap(x, (s, '54138969'), (s, '55011271')) for s in ('S5', 'S9')] and None), 'disagree about the world'),
    ('mmpose', 'views: a camera missing', edit_pkl(MC, lambda x: x.pop(('S5', '60457274')) and None), '3 of 4 cameras'),
    ('mmpose', 'joints: another order', edit_arrays(MM, lambda x: put(x, 'S', x['S'][:, OTHER])), 'another order'),
    ('mmpose', 'subject: not in the cameras', edit_pkl(MC, lambda x: {k: v for k, v in x.items() if k[0] != 'S5'}), 'and no S5'),
    ('mmpose', 'other: no cameras', drop(MC), 'no cameras to bring them into the world'),
    ('mmpose', 'other: R not transposed', edit_pkl(MC, lambda x: [c.update(R=c['R'].T) for c in x.values()] and None), 'disagree about the world'),
    ('mmpose', 'other: millimetres', edit_arrays(MM, lambda x: x['S'].__imul__(1000)), '1000 times too large'),
    ('mmpose', 'other: names of images', edit_arrays(MM, lambda x: put(x['imgname'], 3, 'photo.jpg')), "image name 'photo.jpg'"),
    ('mmpose', 'other: code in the cameras', lambda d: (d/MC).write_bytes(pickle.dumps({('S5', '54138969'): Malicious('x')})), 'asks for posix.system'),
    ('motionbert', 'truncated: poses', cut(MB), 'cannot be read'),
    ('motionbert', 'shape: fewer 2D poses', mb('joint_2d', lambda a: a[1:]), '95 2D poses'),
    ('motionbert', 'shape: 16 joints', mb('joint3d_image', lambda a: a[:, :16]), 'should be (frames, 17, 3)'),
    ('motionbert', 'NaN: poses', edit_pkl(MB, lambda x: put(x['train']['joint3d_image'], (0, 2), np.nan)), 'NaN'),
    ('motionbert', 'views: in another order', mb('source', lambda s: [n[:-1]+str(5-int(n[-1])) for n in s]), 'miss one another'),
    ('motionbert', 'views: one alone', edit_pkl(MB, lambda x: [put(x['train'], k, a[:12]) for k, a in list(x['train'].items())] and None), 'one view alone'),
    ('motionbert', 'joints: another order', mb('joint3d_image', lambda a: a[:, OTHER]), 'another order'),
    ('motionbert', 'subject: not in the cameras', without('S5'), 'and no S5'),
    ('motionbert', 'other: no cameras', drop(ML), 'no cameras to bring them into the world'),
    ('motionbert', 'other: no sources', edit_pkl(MB, lambda x: x['train'].pop('source') and None), 'has no source'),
    ('motionbert', 'other: another name', edit_pkl(MB, lambda x: put(x['train']['source'], 0, 'S5_Walking')), "source 'S5_Walking' is not like"),
    ('motionbert', 'other: no test half', edit_pkl(MB, lambda x: put(x['test'], 'source', [])), '0 sources'),
    ('motionbert', 'other: code in the file', edit_pkl(MB, lambda x: put(x['train'], 'joint_2d', Malicious('x'))), 'asks for posix.system'),
    ('h36m-fetch', 'truncated: annotations', cut(H5), 'cannot be read as HDF5'),
    ('h36m-fetch', 'shape: 17 joints', edit_h5(resize_h5), 'should be (frames, 32, 3)'),
    ('h36m-fetch', 'NaN: poses', edit_h5(lambda f: put(f['pose/3d'], (0, 3), np.nan)), 'NaN or infinite'),
    ('h36m-fetch', 'views: cameras swapped', edit_h5(swap_h5), 'disagree about the world'),
    ('h36m-fetch', 'joints: from the last to the first', edit_h5(turn_h5), 'another order'),
    ('h36m-fetch', 'subject: not in the cameras', without('S5'), 'and no S5'),
    ('h36m-fetch', 'other: no cameras', drop(ML), 'no cameras'),
    ('h36m-fetch', 'other: only retargeted poses', edit_h5(lambda f: f.__delitem__('pose/3d')), 'no truth'),
    ('h36m-fetch', 'other: a folder without a trial', lambda d: (d/'S5/Walking-1').rename(d/'S5/Walking'), "like 'Directions-1'"),
    ('official', 'truncated: CDF', cut(CD), 'cannot be read as a CDF'),
    ('official', 'truncated: metadata', cut(ML), 'truncated'),
    ('official', 'shape: 17 joints', edit_cdf(CD, lambda x: x[:, :51]), 'should be (frames, 32, 3)'),
    ('official', 'shape: 2D of other frames', edit_cdf(C2, lambda x: x[:5]), 'has 5 frames'),
    ('official', 'NaN: poses', edit_cdf(CD, lambda x: nan_at(x, (2, 5))), 'NaN'),
    ('official', 'views: cameras swapped', places(lambda w: [*w[66:132], *w[:66], *w[132:]]), 'views are in another order'),
    ('official', 'joints: from the last to the first', edit_cdf(CD, lambda x: x.reshape(-1, 32, 3)[:, ::-1].reshape(len(x), 96)), 'another order'),
    ('official', 'subject: not in the cameras', places(lambda w: ['0' if i < 264 and (i//6) % 11 == 4 else n for i, n in enumerate(w)]), 'and no S5'),
    ('official', 'other: the camera table too short', places(lambda w: w[:-1]), '299 numbers'),
    ('official', 'other: metres', edit_cdf(CD, lambda x: x/1000), '1000 times too small'),
    ('official', 'other: wrong name of an action', edit_text(ML, lambda t: t.replace('<td>Walking 1</td>', '<td>Eating 9</td>')), "which is Walking, is called 'Eating 9'"),
]


def told(path):
    "What is said when a folder is opened and all its sequences are read."
    try: open_h36m(path).poses()
    except MpstError as e: return str(e).replace(str(path), 'bad')
    return 'nothing'


@pytest.mark.parametrize('form', FORMS)
def test_each_is_told_by_file_fault_and_remedy(form, good, tmp_path):
    assert open_h36m(good/form).poses()[0].key == 'S5-Walking-1'                  # nothing is wrong with it before
    files, own = {f.name for f in (good/form).rglob('*') if f.is_file()}, [v[1:] for v in VARIANTS if v[0] == form]
    assert {k for k in KINDS} <= {what.split(':')[0] for what, *_ in own}
    print(f'\n{form}')
    for what, damage, words in own:
        shutil.copytree(good/form, tmp_path/'bad'); damage(tmp_path/'bad'); said = told(tmp_path/'bad'); shutil.rmtree(tmp_path/'bad')
        print(f'  {what:36} {said}')
        assert words in said, (form, what, words, said)
        assert any(name in said for name in files) or 'bad' in said, (form, what, said)          # the file, or the folder where none is to blame
        assert re.search(r'\b(again|give|choose)\b', said), (form, what, 'no remedy', said)


# As karfly's label file and h36m-fetch's folders have them; our own writers cannot tell whether they are read.
REAL = ['Directions-1', 'Directions-2', 'Discussion-1', 'Discussion-2', 'Eating-1', 'Eating-2', 'Greeting-1', 'Greeting-2', 'Phoning-1', 'Phoning-2', 'Posing-1', 'Posing-2', 'Purchases-1', 'Purchases-2',
        'Sitting-1', 'Sitting-2', 'SittingDown-1', 'SittingDown-2', 'Smoking-1', 'Smoking-2', 'TakingPhoto-1', 'TakingPhoto-2', 'Waiting-1', 'Waiting-2', 'Walking-1', 'Walking-2', 'WalkingDog-1', 'WalkingDog-2',
        'WalkingTogether-1', 'WalkingTogether-2']


def test_real_names_are_read(tmp_path):
    "All 30 names of real copies, in karfly's table and as h36m-fetch's folders, are the release's actions 2 to 16 in its order; and they are what our writers write."
    one = walk('S1', 1); keys = [f'S1-{a}-{t}' for a in H36M_ACTIONS for t in (1, 2)]
    WRITERS['karfly']([one], tmp_path/'karfly'); file = tmp_path/'karfly'/KA; x = np.load(file, allow_pickle=True).item()
    assert x['action_names'] == REAL
    table = np.tile(x['table'], 30); table['action_idx'] = np.repeat(np.arange(30), 12); np.save(file, _object({**x, 'action_names': REAL, 'table': table}))
    WRITERS['h36m-fetch']([one], tmp_path/'fetch')
    for name in REAL: (tmp_path/'fetch/S1'/name).exists() or shutil.copytree(tmp_path/'fetch/S1/Walking-1', tmp_path/'fetch/S1'/name)
    for form in ('karfly', 'fetch'):
        h = open_h36m(tmp_path/form); assert h.sequences == keys and [h.pose(k).key for k in ('S1-Photo-2', 'S1-WalkDog-1', 'S1-WalkTogether-2')] == ['S1-Photo-2', 'S1-WalkDog-1', 'S1-WalkTogether-2']


def test_the_table_is_long_enough():
    print(f'\n{len(VARIANTS)} damaged files in {len(FORMS)} forms')
    assert len(VARIANTS) >= 60 and len({v[:2] for v in VARIANTS}) == len(VARIANTS) and {v[0] for v in VARIANTS} == set(FORMS)


def test_what_is_no_form_is_told(good, tmp_path):
    (tmp_path/'empty').mkdir(); (tmp_path/'note.txt').write_text('x'); (tmp_path/'m.pkl').write_bytes(pickle.dumps(dict(train={}, test=dict(joint3d_image=[]))))
    for name in ('karfly', 'microsoft'): shutil.copytree(good/name, tmp_path/'both', dirs_exist_ok=True)
    for path, words in ((tmp_path/'nowhere', 'is not there'), (tmp_path/'empty', 'holds no form of Human3.6M that is read here: official'), (tmp_path/'note.txt', 'holds no form'),
                        (tmp_path/'m.pkl', "its 'train' has no joint3d_image, joint_2d, source"), (good/'mmpose'/MC, 'holds no form'), (tmp_path/'both', 'several forms of Human3.6M (karfly, microsoft)')):
        assert words in (said := told(path)), said


# Files that mean harm.

def reduce_to(function, *args):
    class Evil:
        def __reduce__(self): return function, args
    return Evil()


def harmful(target):
    "Pickles, by what they would do: touch the file `target`."
    touch, text = f'touch {target}', str(target).encode()
    array = np.empty(2, object); array[0] = reduce_to(os.system, touch)
    state = np.zeros(3); hidden = pickle.dumps(reduce_to(os.system, touch))
    return {
        'os.system': pickle.dumps(reduce_to(os.system, touch)),
        'in a dict in a list': pickle.dumps([dict(a=[1, (2, reduce_to(os.system, touch))])]),
        'eval': pickle.dumps(reduce_to(eval, f"__import__('os').system({touch!r})")),
        'exec': pickle.dumps(reduce_to(exec, f"open({str(target)!r}, 'w')")),
        'open': pickle.dumps(reduce_to(open, str(target), 'w')),
        'subprocess': b'csubprocess\ncall\n((lVtouch\naV' + text + b'\natR.',
        'getattr of a module': b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(Vos\ntRVsystem\ntR(V" + touch.encode() + b'\ntR.',
        'the old protocol, latin1': b'cposix\nsystem\n(V' + touch.encode() + b'\ntR.',
        'an array of objects': pickle.dumps(array),
        'a pickle in bytes, loaded': pickle.dumps(reduce_to(pickle.loads, hidden)),
        "NumPy's own loader": pickle.dumps(reduce_to(np.load, str(target))),
        'a global that is only named': b'cos\nsystem\n.',
        'the state of an array': pickle.dumps(state, 2).replace(b'numpy.core.multiarray', b'posix')[:-1] + b'cposix\nsystem\n(V' + touch.encode() + b'\ntRb.',
        'codecs': b'c_codecs\nencode\n(Vx\nVzlib\ntR.',
        'a persistent id': b'Vos.system\nQ.' + b'.',
        'an extension code': b'\x82\x01.',
        'torch': pickle.dumps(reduce_to(torch.load, str(target))),
    }


def as_npy(pickled, shape=()):
    "A .npy of objects whose content is that pickle."
    head = ("{'descr': '|O', 'fortran_order': False, 'shape': %r, }" % (shape,)).encode(); head += b' '*(-(len(head)+11) % 64) + b'\n'
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(head)) + head + pickled


def as_npz(path, **arrays):
    with zipfile.ZipFile(path, 'w') as z:
        for name, data in arrays.items(): z.writestr(f'{name}.npy', data)


def readers(good):
    "Whoever reads pickles, arrays of objects or archives of them: name -> (a copy of a folder whose file it is, how to read)."
    opened = lambda d: open_h36m(d).poses()
    yield 'load_arrays .pkl', None, 'a.pkl', bytes, lambda d: load_arrays(d/'a.pkl')
    yield 'load_arrays .npy', None, 'a.npy', as_npy, lambda d: load_arrays(d/'a.npy')
    yield 'load_arrays .npz', None, 'a.npz', 'npz', lambda d: load_arrays(d/'a.npz')
    yield 'read_cameras cameras.pkl', None, 'cameras.pkl', bytes, lambda d: read_cameras(d/'cameras.pkl')
    yield 'read_cameras camera_data.pkl', None, 'camera_data.pkl', bytes, lambda d: read_cameras(d/'camera_data.pkl')
    yield 'VideoPose3D 3D', 'videopose3d', V3, 'npz', opened
    yield 'VideoPose3D 2D', 'videopose3d', V2, 'npz', opened
    yield 'karfly', 'karfly', KA, as_npy, opened
    yield 'Microsoft', 'microsoft', MS, bytes, opened
    yield 'mmpose annotations', 'mmpose', MM, 'npz', opened
    yield 'mmpose cameras', 'mmpose', MC, bytes, opened
    yield 'mmpose detections', 'mmpose', 'annotation_body3d/fps50/cpn_test.npy', as_npy, lambda d: open_h36m(d, detections='cpn').poses()
    yield 'MotionBERT', 'motionbert', MB, bytes, opened
    yield 'a single file', None, 'h36m_train.pkl', bytes, lambda d: open_h36m(d/'h36m_train.pkl').poses()


def test_no_file_runs_anything(good, tmp_path):
    "Every harmful pickle through every reader: an `MpstError` that names the file, and nothing has happened."
    target, evil, n = tmp_path/'ran', harmful(tmp_path/'ran'), 0
    for reader, form, name, wrap, read in readers(good):
        if form: shutil.copytree(good/form, tmp_path/'bad')
        for what, data in evil.items():
            file = tmp_path/'bad'/name; file.parent.mkdir(parents=True, exist_ok=True)
            if wrap == 'npz': as_npz(file, positions_3d=as_npy(data), positions_2d=as_npy(data), imgname=as_npy(data), S=as_npy(data), part=as_npy(data))
            else: file.write_bytes(wrap(data))
            with pytest.raises(MpstError, match=re.escape(name.split('/')[-1])): read(tmp_path/'bad')
            assert not target.exists(), f'{reader}: {what} ran'; n += 1
        shutil.rmtree(tmp_path/'bad')
    print(f'\n{n} harmful files, {len(evil)} kinds through {n//len(evil)} readers: none ran')


def test_what_runs_elsewhere_is_what_was_refused_here(tmp_path):
    "The files do mean harm: Python's own loader runs them, so that the test above could fail."
    ran = []
    for what, data in harmful(tmp_path/'ran').items():
        try: pickle.loads(data)
        except Exception: pass                                                    # some stop after they have run, and some need a loader of their own
        if (tmp_path/'ran').exists(): ran.append(what); (tmp_path/'ran').unlink()
    assert {'os.system', 'in a dict in a list', 'eval', 'exec', 'open', 'subprocess', 'the old protocol, latin1', 'an array of objects', 'a pickle in bytes, loaded'} <= set(ran), ran


def test_torch_files_and_hdf5_run_nothing(good, tmp_path):
    from mpst_nb.models.detector import load_weights
    torch.save(dict(a=reduce_to(os.system, f'touch {tmp_path}/ran')), tmp_path/'weights.pt')
    with pytest.raises(MpstError): load_weights(torch.nn.Linear(2, 2), tmp_path/'weights.pt')
    with pytest.raises(MpstError, match='weights.pt'): load_arrays(tmp_path/'weights.pt')
    shutil.copytree(good/'h36m-fetch', tmp_path/'bad')
    with h5py.File(tmp_path/'bad'/H5, 'r+') as f:                                 # a pickle as the bytes of a data set: they stay bytes
        del f['frame']; f['frame'] = np.frombuffer(pickle.dumps(reduce_to(os.system, f'touch {tmp_path}/ran')), np.uint8)
    with pytest.raises(MpstError, match='annot.h5'): open_h36m(tmp_path/'bad').poses()
    assert not (tmp_path/'ran').exists()
    torch.load(tmp_path/'weights.pt', weights_only=False); assert (tmp_path/'ran').exists()      # which is what would have happened


def test_what_numpy_and_old_pythons_write_is_read(tmp_path):
    "Arrays, scalars and containers of every protocol, and the bytes that Python 2 wrote as latin1 text."
    plain = dict(a=np.arange(6.).reshape(2, 3), b=[np.float32(2), 'text', (1, None, True)], c={('S1', 'x'): np.array([('S1', 3)], [('n', 'U2'), ('i', 'i1')])}, d={1, 2}, e=frozenset('a'))     # of one: the order in which a set is printed changes from run to run
    for protocol in range(6):
        (tmp_path/'a.pkl').write_bytes(pickle.dumps(plain, protocol)); assert repr(load_arrays(tmp_path/'a.pkl')) == repr(plain)
    old = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'%s'\ntb."
    (tmp_path/'a.pkl').write_bytes(old % b''.join(b'\\x%02x' % b for b in np.array([1.5, -2.]).tobytes())); assert load_arrays(tmp_path/'a.pkl').tolist() == [1.5, -2.]
