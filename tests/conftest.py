"""One thread: these tensors are tiny, and a second thread only waits."""

import torch

torch.set_num_threads(1)
