"""Hold the Human3.6M path against what others have published: `python tests/published_files.py JSON CAMERAS`.

JSON is tests/data/h36m/h36m_coco.json of mmpose (joints of four frames of Human3.6M, in the world and in the image), CAMERAS is common/h36m_dataset.py of VideoPose3D (Human3.6M's cameras).
Both are read as users would read them; the joints are projected by our cameras and compared with the published 2D. Not part of pytest: the files are Human3.6M's and are not kept here."""
import sys

import numpy as np

from mpst_nb.data.h36m import open_h36m

found, off = open_h36m(sys.argv[1], cameras=sys.argv[2]), []
for key in found.sequences:
    s = found.pose(key)
    for v in np.flatnonzero(np.isfinite(s.joints2d).all((1, 2, 3))):
        off.append(np.linalg.norm(s.projected()[v]-s.joints2d[v], axis=-1).max())
        print(f'{key}, frame {s.frames[0]+1}, camera {s.cameras[v].name}: the joint that is furthest off lies {off[-1]:.1e} px beside the published one')
if not off: sys.exit('no view has 2D joints')
sys.exit(f'{max(off):.2g} px is too far' if max(off) > 1e-3 else 0)
