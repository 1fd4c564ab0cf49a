"""Settings of all tests."""

import torch

# The tensors of the tests are small: a second thread would only wait for the first.
torch.set_num_threads(1)
