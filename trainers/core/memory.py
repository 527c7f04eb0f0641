"""Weights in the memory of the process, not in the file that they were read from."""

from __future__ import annotations

import torch
from torch import nn


def own_memory(module: nn.Module) -> None:
    """Copy the weights of a module on the CPU, in place.

    `safetensors` maps the file of the weights into memory. If that file is cut off later, the next use of a page
    that is gone ends the process (SIGBUS). A copy is made of one tensor at a time.
    """
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.device.type == "cpu":
                tensor.data = tensor.data.clone()
