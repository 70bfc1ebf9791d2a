"""Damaged, hostile and senseless files for every reader: only `MpstError` may come out, in time and in bounded memory.

`python tests/fuzz.py` tries 100,000 cases that hypothesis draws: valid files with flipped bits, cuts, splices, repetitions, deep nesting, huge numbers and NaN; their contents with values of other
types put in anywhere; archives and documents that unfold to gigabytes; pickles that would run code; files of random bytes. Each reader runs in a process of its own whose memory may grow by 1 GB and
that is killed when one case does not end (20 s of its processor time, 80 s by the clock); what a case would do to the outside (a file that its code would leave) is looked for. It prints a table and writes data/results/robust/fuzz.json.
`--reader NAME` takes one reader, `--seed N` other cases; the failing cases are left in the folder of `--keep`."""
import argparse, collections, concurrent.futures, copy, io, json, math, multiprocessing, os, pickle, resource, shutil, signal, struct, sys, tempfile, time, traceback, warnings, zipfile, zlib
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fuzz_readers import READERS

from mpst_nb.core import MpstError

ROOT = Path(__file__).resolve().parent.parent
SECONDS, MEMORY = 20, 1 << 30             # of one case, and what it may take
RAN = "FUZZ-CODE-RAN"                     # the file that code from a damaged file would leave


# --- damage to bytes

NUMBERS = ["nan", "NaN", "inf", "-inf", "Infinity", "0", "-1", "1e308", "-1e308", "1e-320", "1e999", "9"*400, "9"*5000, "18446744073709551616", "-9223372036854775809", "2147483648", "0x10", "1_0", "1e", ".", "", "null", "true", "[]", "{}", '"a"', "[1, 2]", "\u0663"]
BYTES = [b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0"*8, b"\xff"*8, b"<", b">", b'"', b"\\", b"{", b"[", b"]", b"}", b"&", b"\n", b",", b"\x80\x04", b"PK\x03\x04", b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"../", b"%s", b"\r\n", b"\t"]
place = st.floats(0, 1, exclude_max=True, width=32)
step = st.one_of(
    st.tuples(st.just("flip"), place, st.integers(0, 7)), st.tuples(st.just("put"), place, st.sampled_from(BYTES)), st.tuples(st.just("over"), place, st.sampled_from(BYTES)),
    st.tuples(st.just("cut"), place, place), st.tuples(st.just("end"), place), st.tuples(st.just("repeat"), place, place, st.integers(2, 60)), st.tuples(st.just("splice"), place, place, place),
    st.tuples(st.just("integer"), place, st.sampled_from(["<i", ">i", "<q", "<H", "<f", "<d"]), st.sampled_from([0, 1, -1, 2**31-1, -2**31, 255, 65535])),
    st.tuples(st.just("number"), place, st.sampled_from(NUMBERS)), st.tuples(st.just("word"), place, place), st.tuples(st.just("noise"), place, st.binary(min_size=1, max_size=24)), st.tuples(st.just("nest"), place, st.sampled_from([60, 2000, 60000])))


def tokens(data):
    "Where numbers stand in a text."
    import re
    return [m.span() for m in re.finditer(rb"-?\d+\.?\d*(?:[eE][-+]?\d+)?", data[:200_000])]


def damaged(data, steps):
    "The bytes after each of these steps."
    for what, *how in steps:
        n = max(len(data), 1); at = int(how[0]*n); to = min(len(data), at+1+int(how[1]*how[1]*400)) if what in ("cut", "repeat") else at
        if what == "flip" and data: b = bytearray(data); b[at] ^= 1 << how[1]; data = bytes(b)
        elif what in ("put", "noise"): data = data[:at]+how[1]+data[at:]
        elif what == "over": data = data[:at]+how[1]+data[at+len(how[1]):]
        elif what == "cut": data = data[:at]+data[to:]
        elif what == "end": data = data[:at]
        elif what == "repeat": data = data[:at]+data[at:to]*how[2]+data[to:]
        elif what == "splice": a, b = sorted((int(how[1]*n), int(how[2]*n))); data = data[:at]+data[a:min(b, a+5000)]+data[at:]
        elif what == "integer":
            kind, value = how[1], how[2]; size = struct.calcsize(kind); value = value % 65536 if kind == "<H" else float(value) if kind[1] in "fd" else value
            data = data[:at]+struct.pack(kind, value)+data[at+size:]
        elif what in ("number", "word"):
            spots = tokens(data)
            if not spots: continue
            a, b = spots[int(how[0]*len(spots))]; c, d = spots[int(how[1]*len(spots))] if what == "word" else (0, 0)
            data = data[:a]+(data[c:d] if what == "word" else how[1].encode())+data[b:]
        elif what == "nest": data = data[:at]+b"["*how[1]+data[at:]+(b"]"*how[1] if how[0] < .5 else b"")
    return data[:3_000_000]


# --- damage to what a file holds

odd = st.one_of(st.none(), st.booleans(), st.integers(-2**70, 2**70), st.floats(), st.sampled_from([10**5000, 1e308, -1e308, "", "nan", "../../x", "\0", "<script>", b"\xff", 2**63, -1, 0, (), [], {}, [[]], [None], {"a": 1}, [1, [2, 3]], "a"*70_000]), st.text(max_size=6),
    st.lists(st.floats(), max_size=4), st.sampled_from([np.zeros(0), np.zeros((0, 17, 3)), np.full((2, 17, 3), np.nan), np.array("x"), np.array([1j]), np.arange(5), np.array(["a", None], object), np.ones((3, 3), bool), np.datetime64("2020-01-01"), np.zeros((1, 1, 1, 1, 1))]),
    st.recursive(st.integers() | st.text(max_size=3), lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=3), s, max_size=3), max_leaves=6))
change = st.one_of(
    st.tuples(st.just("set"), place, place, odd), st.tuples(st.just("drop"), place, place), st.tuples(st.just("twice"), place, place), st.tuples(st.just("rename"), place, place, st.text(max_size=8)),
    st.tuples(st.just("array"), place, place, st.sampled_from(["nan", "inf", "big", "less", "more", "axis", "flat", "turn", "zero", "int8", "text", "object", "bool", "complex", "negative", "scalar", "empty"])))


def spots(x, found=None, depth=0):
    "Every (container, key) in a tree of dicts, lists and arrays of objects."
    found = [] if found is None else found
    if len(found) > 3000 or depth > 12: return found
    if isinstance(x, np.ndarray) and x.dtype == object and x.ndim == 0: spots(x.item(), found, depth+1)
    for k in list(x) if isinstance(x, dict) else range(min(len(x), 60)) if isinstance(x, list) else ():
        found.append((x, k)); spots(x[k], found, depth+1)
    return found


def other_array(a, how):
    "An array changed in one way."
    a = np.array(a)
    try:
        if how in ("nan", "inf", "big", "negative"): a = a.astype(float); a.flat[a.size//2] = dict(nan=np.nan, inf=np.inf, big=1e300, negative=-1e7)[how]; return a
        return dict(less=lambda: a[:-1], more=lambda: np.concatenate([a, a[:1]]), axis=lambda: a[None], flat=lambda: a.ravel(), turn=lambda: a.T, zero=lambda: a*0, int8=lambda: a.astype("i1"), text=lambda: a.astype(str),
            object=lambda: a.astype(object), bool=lambda: a.astype(bool), complex=lambda: a.astype(complex), scalar=lambda: a.ravel()[:1].reshape(()), empty=lambda: a[:0])[how]()
    except (ValueError, TypeError, IndexError, OverflowError): return np.array("x")


def changed(tree, steps):
    "The tree after each of these changes."
    tree = {"all": tree}
    for what, where, deep, *how in steps:
        every = spots(tree)
        if what == "array": every = [s for s in every if isinstance(s[0][s[1]], (np.ndarray, list)) and len(np.shape(s[0][s[1]]) if isinstance(s[0][s[1]], np.ndarray) else [0])] or every
        owner, key = every[int(where*len(every))] if every else (tree, "all")
        if what == "set": owner[key] = copy.deepcopy(how[0])
        elif what == "drop" and owner is not tree: owner.pop(key)
        elif what == "twice" and isinstance(owner, list): owner.insert(int(deep*len(owner)), owner[key])
        elif what == "rename" and isinstance(owner, dict) and owner is not tree: owner[how[0]] = owner.pop(key)
        elif what == "array":
            old = owner[key]
            new = other_array(old, how[0]) if isinstance(old, np.ndarray) or not isinstance(old, (dict, str)) else old
            owner[key] = new.tolist() if isinstance(old, list) and isinstance(new, np.ndarray) else new
        if "all" not in tree: tree["all"] = None
    return tree["all"]


def _numpy_file(x, path): np.save(path, x if isinstance(x, np.ndarray) else np.array(_boxed(x)), allow_pickle=True)
def _boxed(x): a = np.empty((), object); a[()] = x; return a


def unpacked(path):
    "What a file holds as a tree, and how to write such a tree; None for a kind that is only damaged as bytes."
    kind = "".join(path.suffixes[-1:])
    if kind == ".json": return json.loads(path.read_text()), lambda x, p: p.write_text(json.dumps(x, default=repr))
    if kind == ".pkl": return pickle.loads(path.read_bytes()), lambda x, p: p.write_bytes(pickle.dumps(x))
    if kind == ".npy": return np.load(path, allow_pickle=True).item(), _numpy_file
    if kind == ".npz":
        with np.load(path, allow_pickle=True) as z: held = {k: z[k].item() if z[k].dtype == object and z[k].ndim == 0 else z[k] for k in z.files}
        def save(x, p):
            if not isinstance(x, dict): return p.write_bytes(pickle.dumps(x))
            with open(p, "wb") as f: np.savez(f, **{str(k).replace("\0", "") or "_": v if isinstance(v, np.ndarray) else _boxed(v) for k, v in x.items() if k != "file"})
        return held, save
    if kind == ".h5":
        import h5py
        def walk(g): return {k: walk(v) if isinstance(v, h5py.Group) else v[()] for k, v in g.items()}
        def fill(g, x):
            for k, v in x.items():
                k = str(k).replace("\0", "").strip("/.") or "_"
                fill(g.require_group(k), v) if isinstance(v, dict) else g.create_dataset(k, data=v)
        def save(x, p):
            with h5py.File(p, "w") as f: fill(f, x if isinstance(x, dict) else dict(pose=x))
        with h5py.File(path) as f: return walk(f), save
    if kind == ".parquet":
        import pandas as pd
        t = pd.read_parquet(path); return dict(t.items()) and {k: t[k].tolist() for k in t}, lambda x, p: pd.DataFrame(x).to_parquet(p)
    if kind in (".safetensors", ".pth", ".pt"):
        import torch
        from safetensors.torch import load_file, save_file
        def arrays(x): return {k: arrays(v) for k, v in x.items()} if isinstance(x, dict) else [arrays(v) for v in x] if isinstance(x, (list, tuple)) else x.numpy() if isinstance(x, torch.Tensor) else x
        def tensors(x): return {k: tensors(v) for k, v in x.items()} if isinstance(x, dict) else [tensors(v) for v in x] if isinstance(x, list) else torch.from_numpy(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x
        if kind == ".safetensors": return arrays(load_file(path)), lambda x, p: save_file(tensors(x), p)
        from mpst_nb.checkpoint import seal
        def save(x, p): torch.save(tensors(x), p); p.suffix == ".pt" and seal(p)      # with a checksum that is right: whoever forges one knows how
        return arrays(torch.load(path, weights_only=True)), save
    return None


# --- files that unfold, run or never end

class Runs:
    "Pickles into a call of the shell."
    def __reduce__(self): return os.system, (f"touch {RAN}",)


def _zip(members, kind=zipfile.ZIP_DEFLATED):
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w", kind) as z:
        for name, data in members.items(): z.writestr(name, data)
    return f.getvalue()


def _zip_bomb(names=("a.npy",), gigabytes=4):
    "An archive of a few MB whose members unfold to arrays of gigabytes."
    head = io.BytesIO(); np.lib.format.write_array_header_1_0(head, dict(descr="<f8", fortran_order=False, shape=(gigabytes << 27,)))
    c = zlib.compressobj(9, zlib.DEFLATED, -15); begin = c.compress(head.getvalue())+c.flush(zlib.Z_FULL_FLUSH)
    block = c.compress(bytes(1 << 24))+c.flush(zlib.Z_FULL_FLUSH); f = io.BytesIO()
    with zipfile.ZipFile(f, "w", zipfile.ZIP_STORED) as z:
        for name in names: z.writestr(name, begin+block*(gigabytes << 6)+c.copy().flush()); z.getinfo(name).compress_type, z.getinfo(name).file_size = zipfile.ZIP_DEFLATED, len(head.getvalue())+(gigabytes << 30)
    return f.getvalue()


def _header(shape, descr="<f8"):
    f = io.BytesIO(); np.lib.format.write_array_header_1_0(f, dict(descr=descr, fortran_order=False, shape=shape)); return f.getvalue()


def _empty_h5(shape):
    import h5py
    f = io.BytesIO()
    with h5py.File(f, "w") as g:
        for k in ("pose/2d", "pose/3d", "frame", "camera"): g.create_dataset(k, shape, "f8", chunks=(1 << 16,)*len(shape[:1])+shape[1:], fillvalue=1.)
    return f.getvalue()


def _memo_pickle(n=60): return b"\x80\x02]q\x00" + b"".join(b"]q" + bytes([i+1]) + b"(" + b"h"+bytes([i]) + b"h"+bytes([i]) + b"e" for i in range(n)) + b"."


LAUGHS = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">' + b"".join(b'<!ENTITY %c "%s">' % (98+i, b"&%c;" % (97+i) * 10) for i in range(12)) + b"]>"
OUTSIDE = b'<?xml version="1.0"?><!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd"><!ENTITY y SYSTEM "http://127.0.0.1:9/z">]>'
HUGE = b"9"*300_000


def bombs():
    "name -> bytes: files that are hostile whatever reader they reach."
    plain = dict(entities=LAUGHS+b"<metadata><w0>&m;</w0></metadata>", storage_entities=LAUGHS+b"<opencv_storage><a>&m;</a></opencv_storage>", qca_entities=LAUGHS+b'<calibration><camera serial="&m;"><intrinsic/></camera></calibration>',
        outside=OUTSIDE+b"<metadata><mapping>&x;</mapping><w0>&y;</w0></metadata>", outside_storage=OUTSIDE+b"<opencv_storage><cam1>&x;</cam1></opencv_storage>",
        nested_json=b"["*200_000, nested_json_whole=b'{"a":'*30_000+b"1"+b"}"*30_000, nested_cameras=b'{"cameras":'+b"["*5000+b"]"*5000+b"}", nested_toml=b"a = "+b"["*30_000, nested_yaml=b"%YAML:1.0\n---\na: "+b"["*50_000, nested_yaml_whole=b"%YAML:1.0\n---\na: "+b"{a: "*20_000+b"1"+b"}"*20_000,
        nested_xml=b"<opencv_storage>"+b"<a>"*50_000, nested_literal=b"h36m_cameras_intrinsic_params = "+b"("*5000, deep_literal=b"h36m_cameras_intrinsic_params = "+b"-"*100_000+b"1", power=b"h36m_cameras_intrinsic_params = 9**9**9\nh36m_cameras_extrinsic_params = 'a'*10**10\n",
        python=f"import os\nos.system('touch {RAN}')\nh36m_cameras_intrinsic_params = __import__('os').system('touch {RAN}')\nh36m_cameras_extrinsic_params = {{}}\n".encode(),
        long_number=b'{"cameras": [{"f": '+HUGE+b"}]}", long_number_toml=b"[a]\nmatrix = [["+HUGE+b"]]\n", long_number_csv=b"camera,frame,x0,y0,x1,y1\ncam1,"+HUGE+b",1,2,3,4\n", far_frame=b"camera,frame,x0,y0,x1,y1\ncam1,99999999999999999999,1,2,3,4\ncam2,0,1,2,3,4\n",
        long_field=b"camera,frame,x0,y0,x1,y1\n"+b"c"*300_000+b",1,1,2,3,4\n", quotes=b'camera,frame,x0,y0,x1,y1\n"'+b"a,"*100_000, nul=b"camera,frame,x0,y0,x1,y1\ncam1,0\0,1,2,3,4\n",
        aliases=b"a: &a [x,x,x,x,x,x,x,x,x]\n"+b"".join(b"%c: &%c [%s]\n" % (98+i, 98+i, b",".join([b"*%c" % (97+i)]*9)) for i in range(9)), python_yaml=f"profile: !!python/object/apply:os.system ['touch {RAN}']\n".encode(),
        long_value=b"profile=quick\nmethod="+b"a"*5000+b"\n", nul_value=b"method=a\0b\n", paths=b"profile=../../../../x\n", path_value=b"data=../../../../etc/passwd\nbaseline=/etc/passwd\n", yaml_paths=b"profile: ../../x\nmethod: ../../../y\n",
        pickle=pickle.dumps(Runs()), pickle_inside=pickle.dumps(dict(a=[Runs()])), torch_like=_zip({"archive/data.pkl": pickle.dumps(Runs()), "archive/version": b"3\n"}), object_array=_zip({"a.npy": _header((1,), "|O")+pickle.dumps([Runs()])}), object_npy=_header((), "|O")+pickle.dumps(Runs()),
        eval_pickle=b"cbuiltins\neval\n(S\"open('"+RAN.encode()+b"','w')\"\ntR.", getattr_pickle=b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR.", reconstruct=b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(L99999999999L\ntS'd'\ntR.", bytearray_pickle=b"cbuiltins\nbytearray\n(L60000000000L\ntR.",
        buffer_pickle=b"cnumpy.core.numeric\n_frombuffer\n(S'a'\ncnumpy\ndtype\n(S'f8'\ntR(L9999999999L\ntS'C'\ntR.", deep_pickle=b"]"*200_000+b"a"*199_999+b".", memo_pickle=_memo_pickle(), long_pickle=b"\x80\x02\x8b\x7f\xff\xff\xff", big_bytes=b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        npy_huge=_header((1 << 40,)), npy_many=_header((1 << 20, 1 << 20, 0)), npy_negative=_header((-1, 17, 3)), npy_titles=_header((1,), "|V2000000000"), npy_text=b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9**9**9,), }"+b" "*40+b"\n",
        safetensors_header=struct.pack("<Q", 1 << 60)+b"{}", safetensors_negative=struct.pack("<Q", 80)+b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,99999999999]}}'.ljust(80), safetensors_nested=struct.pack("<Q", 60_000)+b"["*60_000, safetensors_overflow=struct.pack("<Q", 120)+b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'.ljust(120),
        h5_huge=_empty_h5((1 << 34,)), h5_wide=_empty_h5((1 << 26, 32, 3)), empty=b"", zero=b"\0"*100_000, magic_npy=b"\x93NUMPY", magic_zip=b"PK\x05\x06"+b"\0"*18, magic_cdf=b"\xcd\xf3\x00\x01\xcc\xcc\x00\x01"+b"\xff"*64, magic_h5=b"\x89HDF\r\n\x1a\n"+b"\xff"*256, c3d=b"\x02P"+b"\xff"*1022, trc=b"PathFileType\t4\t(X/Y/Z)\ta\nDataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames\n30\t30\t9999999999\t0\tmm\t30\t1\t1\nFrame#\tTime\t\n\n")
    out = {k: v if isinstance(v, bytes) else v.encode() for k, v in plain.items()}
    for k, names in dict(zip_bomb=("a.npy",), zip_bomb_named=("positions_3d.npy", "joints3d.npy", "joints2d.npy", "imgname.npy", "cameras.npy", "fps.npy"), zip_bomb_torch=("archive/data.pkl",)).items(): out[k] = _zip_bomb(names, 4 if len(names) == 1 else 2)
    return out


# --- one reader in one process

def cases(trees, files, hostile):
    "What one case is: a file of the reader's, by its number, and what becomes of it."
    n = len(files)
    byte = st.tuples(st.just("bytes"), st.integers(0, n-1), st.lists(step, min_size=1, max_size=4))
    whole = st.tuples(st.just("random"), st.integers(0, n-1), st.one_of(st.binary(max_size=400), st.text(max_size=200).map(lambda s: s.encode("utf-8", "surrogatepass"))))
    bomb = st.tuples(st.just("bomb"), st.integers(0, n-1), st.sampled_from(sorted(hostile)))
    held = [i for i, t in enumerate(trees) if t is not None]
    inner = st.tuples(st.just("contents"), st.sampled_from(held), st.lists(change, min_size=1, max_size=3)) if held else byte
    return st.one_of(byte, byte, byte, inner, inner, inner, byte if not held else inner, whole, bomb)


def status(key): return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(key)) / 1024


def trace(e):
    "Where an error was raised, by the last line of ours: the same place is the same bug."
    ours = [f for f in traceback.extract_tb(e.__traceback__) if "/mpst_nb/" in f.filename]
    at = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "?"
    return f"{type(e).__name__} in {at}: {str(e)[:160]}"


class Work:
    "The cases of one reader: files, what they hold, and what came of each case."
    def __init__(self, reader, folder, hostile):
        self.reader, self.folder, self.hostile = reader, Path(folder), hostile
        reader.make(self.folder)
        self.files = [f for p in reader.damage for f in sorted(self.folder.glob(p)) if f.is_file()]
        self.valid = [f.read_bytes() for f in self.files]
        self.trees, self.writers = zip(*[(None, None) if u is None else (pickle.dumps(u[0]), u[1]) for u in map(self.unpack, self.files)])

    def unpack(self, f):
        try: return unpacked(f)
        except Exception: return None      # a kind of file that only its own reader knows

    def write(self, case):
        "Damage the file; False if the case makes no file."
        kind, i, how = case; path = self.files[i]
        if kind == "bytes": path.write_bytes(damaged(self.valid[i], how))
        elif kind == "random": path.write_bytes(how)
        elif kind == "bomb": path.write_bytes(self.hostile[how])
        else:
            try: self.writers[i](changed(pickle.loads(self.trees[i]), how), path)
            except Exception: path.write_bytes(self.valid[i]); return False      # this kind of file cannot hold such a thing
        return True

    def run(self, case):
        "(what came of it, its seconds, MiB that it took): 'accepted', 'refused', or how it broke."
        if not self.write(case): return None
        path, outside = self.files[case[1]], self.folder/RAN
        open("/proc/self/clear_refs", "w").write("5")
        before, start, said, short = status("VmRSS"), time.process_time(), "accepted", False
        try:
            with warnings.catch_warnings(): warnings.simplefilter("ignore"); self.reader.check(self.reader.read(self.folder, path))
        except MpstError as e:
            said = "refused"
            while (e := e.__cause__ or e.__context__) is not None: short = short or trace(e) if isinstance(e, MemoryError) else short
        except BaseException as e: said = ("MEMORY: " if isinstance(e, MemoryError) else "CRASH: ")+trace(e)
        took, grown = time.process_time()-start, status("VmHWM")-before
        if short and grown > MEMORY >> 22: said = "MEMORY: "+short                # it was on its way: an allocation that the system refuses at once takes nothing
        if took > SECONDS: said = f"SLOW: {took:.0f} s"
        if outside.exists() or Path(RAN).exists(): outside.unlink(missing_ok=True); Path(RAN).unlink(missing_ok=True); said = "CODE RAN"
        path.parent.mkdir(parents=True, exist_ok=True); path.write_bytes(self.valid[case[1]])
        return said, took, grown


def ready(reader, folder, hostile):
    "In a process of its own, whose memory is bounded from here on: the work of a reader."
    os.chdir(folder); os.environ["OMP_NUM_THREADS"] = "1"
    sys.stderr = sys.stdout = open(os.devnull, "w"); os.dup2(sys.stderr.fileno(), 2); os.dup2(sys.stderr.fileno(), 1)
    import torch
    torch.set_num_threads(1)
    (Path(folder)/"files").mkdir(); work = Work(reader, Path(folder)/"files", hostile)
    work.run(("bytes", 0, []))                                  # what is imported late is imported
    resource.setrlimit(resource.RLIMIT_AS, (int(status("VmSize"))*2**20+MEMORY,)*2)
    return work


def once(reader, folder, hostile, case):
    "What comes of one case, in a process of its own; None if that ends without a word."
    ours, theirs = multiprocessing.Pipe(False)
    p = multiprocessing.get_context("fork").Process(target=lambda: theirs.send(ready(reader, folder, hostile).run(case))); p.start(); theirs.close()
    try: return ours.recv() if ours.poll(300) else None
    except EOFError: return None
    finally: p.kill(); p.join()


def worker(reader, folder, hostile, n, number, pipe, keep):
    "Run n cases and tell of each: before it, so that one that never ends is known, and after it."
    work = ready(reader, folder, hostile)
    left = [n]
    def one(case):
        if left[0] == 0: return
        pipe.send(("begin", case if case[0] != "random" else case))
        done = work.run(case); pipe.send(("end", done)); left[0] -= done is not None
    while left[0]:
        quiet = settings(max_examples=min(left[0], 2000), deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        try: seed(number)(quiet(given(cases(work.trees, work.files, hostile))(one)))()
        except MemoryError: pass                                 # hypothesis' own
        except BaseException: pipe.send(("error", traceback.format_exc())); raise
        number += 1
    pipe.send(("done", None))


# --- all of them

def fuzz(reader, n, number=0, hostile=None, keep=None, say=lambda *_: None):
    "n cases for one reader: a row of the table."
    row = collections.Counter(); broken, slowest, most = {}, 0., 0.
    def note(said, case, took=0., grown=0.):
        nonlocal slowest, most
        kind = said.split(":")[0]
        row["cases"] += 1; row[kind if kind in ("accepted", "refused") else "broken"] += 1; slowest, most = max(slowest, took), max(most, grown)
        if kind in ("accepted", "refused") and grown > 1024: kind = said = "MEMORY: more than 1 GB"; row["broken"] += 1
        if kind not in ("accepted", "refused"):
            b = broken.setdefault(said, dict(what=said, times=0, case=repr(case)[:600])); b["times"] += 1
            if keep and b["times"] == 1: Path(keep).mkdir(parents=True, exist_ok=True); (Path(keep)/f"{reader.name.replace(' ', '-').replace('.', '-')}-{len(broken)}.pkl").write_bytes(pickle.dumps((reader.name, case)))
    starts = 0
    while row["cases"] < n and starts < 40:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
            ours, theirs = multiprocessing.Pipe(False)
            p = multiprocessing.get_context("fork").Process(target=worker, args=(reader, folder, hostile, n-row["cases"], number+1000*starts, theirs, keep)); p.start(); theirs.close(); starts += 1
            case, finished, patience = None, False, 300                # a worker begins by making its files
            while True:
                try:
                    if not ours.poll(patience): os.kill(p.pid, signal.SIGKILL); note(f"HANG: no answer in {patience} s", case, patience); break
                    what, value = ours.recv()
                except EOFError: break
                if what == "begin": case, patience = value, 4*SECONDS
                elif what == "error": raise RuntimeError(f"the fuzzer itself failed at {reader.name}: {value}")
                elif what == "end": patience = 60; value and note(value[0], case, *value[1:]); case = None
                else: finished = True; break
            p.join()
            if not finished and case is not None and p.exitcode not in (0, -signal.SIGKILL): note(f"DIED: {signal.Signals(-p.exitcode).name if p.exitcode < 0 else p.exitcode}", case)
            if not finished and case is None and p.exitcode: raise RuntimeError(f"{reader.name}: the process ended with {p.exitcode} between two cases")
    out = dict(reader=reader.name, cases=row["cases"], own_errors=row["refused"], accepted=row["accepted"], broken=row["broken"], slowest_seconds=round(slowest, 2), most_mib=round(most), processes=starts, kinds=list(broken.values()))
    say(line(out)); return out


def line(r): return f"{r['reader']:28} {r['cases']:7,} {r['own_errors']:10,} {r['accepted']:9,} {r['broken']:7,} {r['slowest_seconds']:9.2f} {r['most_mib']:9,}"


HEAD = f"{'reader':28} {'cases':>7} {'own errors':>10} {'accepted':>9} {'broken':>7} {'slowest,s':>9} {'most, MiB':>9}"


def together(a, b):
    "Two rows of one reader as one."
    kinds = {k["what"]: dict(k) for k in a["kinds"]}
    for k in b["kinds"]: kinds.setdefault(k["what"], k | dict(times=0))["times"] += k["times"]
    return a | {k: a[k]+b[k] for k in ("cases", "own_errors", "accepted", "broken", "processes")} | {k: max(a[k], b[k]) for k in ("slowest_seconds", "most_mib")} | dict(kinds=list(kinds.values()))


def total(rows): return dict(reader="all", slowest_seconds=max(r["slowest_seconds"] for r in rows), most_mib=max(r["most_mib"] for r in rows), **{k: sum(r[k] for r in rows) for k in ("cases", "own_errors", "accepted", "broken")})


def _fuzz_named(name, *more): return fuzz(next(r for r in READERS if r.name == name), *more)


def fuzz_all(n, number=0, only=None, keep=None, rounds=1, minutes=None, save=lambda rows: None, say=print, jobs=1):
    "n cases over all readers, by their weights, so many readers at once, in rounds, each saved: a list of rows. After so many minutes no new round is begun."
    chosen = [r for r in READERS if only is None or only in r.name]; whole = sum(r.weight for r in chosen)
    hostile, start, rows = bombs(), time.time(), None
    with concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
        for k in range(rounds):
            if minutes and time.time()-start > 60*minutes: break
            now = list(pool.map(_fuzz_named, *zip(*[(r.name, math.ceil(n*r.weight/whole/rounds), number+100_000*k, hostile, keep) for r in chosen])))
            rows = now if rows is None else list(map(together, rows, now)); save(rows)
    say(HEAD)
    for r in [*rows, total(rows)]: say(line(r))
    for r in rows:
        for b in r["kinds"]: say(f"  {r['reader']}, {b['times']} times: {b['what']}")
    return rows


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--cases", type=int, default=100_000)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--reader", help="only those whose name holds this")
    p.add_argument("--keep", help="folder for the first failing case of each kind; `--again FILE` runs it")
    p.add_argument("--again", help="run a kept case here, in this process, with its traceback")
    p.add_argument("--rounds", type=int, default=10, help="in which the cases are tried; the record is written after each")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="readers at once")
    p.add_argument("--minutes", type=float, help="begin no new round after so many")
    p.add_argument("--out", default=ROOT/"data"/"results"/"robust"/"fuzz.json", help="where the record goes (not with --reader)")
    a = p.parse_args()
    if a.again:
        name, case = pickle.loads(Path(a.again).read_bytes()); work = None
        with tempfile.TemporaryDirectory() as folder:
            work = Work(next(r for r in READERS if r.name == name), folder, bombs()); print(case if len(repr(case)) < 3000 else repr(case)[:3000]); work.write(case)
            print(work.reader.read(work.folder, work.files[case[1]])); sys.exit()
    from mpst_nb.core import code_version, host, versions, write_json
    start = time.time()
    def save(rows):
        print(f"{sum(r['cases'] for r in rows):,} cases, {sum(r['broken'] for r in rows)} broken, {time.time()-start:.0f} s", flush=True)
        if not a.reader: write_json(a.out, dict(seed=a.seed, seconds=round(time.time()-start), bound_seconds=SECONDS, bound_mib=MEMORY >> 20, total=total(rows), rows=rows, git=code_version(), versions=versions(), host=host()))
    rows = fuzz_all(a.cases, a.seed, a.reader, a.keep, a.rounds if not a.reader else 1, a.minutes, save, jobs=a.jobs)
    sys.exit(any(r["broken"] for r in rows))
