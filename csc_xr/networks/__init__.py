"""Networks of both phases: what they are, how they are built, read, kept and run.

TensorFlow gets one thread for each operation, unless the environment already says otherwise: a
fit then gives the same weights on any number of cores, and Dask's threads, which call networks
side by side, do not fight over a second pool. Set before TensorFlow starts, hence here.
"""

import os

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
