"""PyTorch: eager, compiled by inductor, and traced to TorchScript.

eager              engine `torch`
compiled           engine `torch_compile`, over the key-value slots of `static_cache`
torchscript        engine `torchscript`, over the module that `trace` makes
explicit_forward   a model's forward with tensors for arguments
weights            reading them in the type that was asked for
"""
