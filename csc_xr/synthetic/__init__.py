"""Generated fjord and river scenes whose classes and calving front are known exactly.

Every value is a function of the seed and of the absolute pixel position, so a scene is
computed chunk by chunk and does not depend on its chunks. Large forms (terrain, fjord walls,
snow lines, ice cover of the sea) are noise on a lattice of 4 px, interpolated to pixels;
fine textures (crevasses, floes, rock) are looked up in periodic tables.
Pixels are linear mixtures of end members, as in spectral mixture analysis.
"""

from csc_xr.synthetic.fjord_features import Tributary
from csc_xr.synthetic.fjord_plan import FrontShape
from csc_xr.synthetic.scenes import fjord, river

__all__ = ["FrontShape", "Tributary", "fjord", "river"]
