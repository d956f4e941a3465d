"""Keep the libraries' own threads from fighting with the tests' processes."""

import cv2
import torch

cv2.setNumThreads(1)
torch.set_num_threads(1)
