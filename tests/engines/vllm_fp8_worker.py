"""Imported by vLLM's workers (worker_extension_cls) for files in fp8. Where oneDNN takes fp8 it may have no kernel but its reference: on a Xeon
with AMX 0.1 GFLOP/s on one thread, where LibTorch without oneDNN makes 20."""
import torch

torch.backends.mkldnn.enabled = False


class Extension:
    """vLLM asks for a class; it adds nothing to a worker."""
