"""Keep the libraries' own threads from fighting with the tests' processes."""

import os

# Before torch is imported, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import torch

cv2.setNumThreads(1)
torch.set_num_threads(1)
# Read when Triton's kernels are first imported: without a GPU they run in its interpreter.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
