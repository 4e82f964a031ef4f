"""PyTorch: eager, compiled by inductor, and traced to TorchScript.

eager              engine `torch`
compiled           engine `torch_compile`, over the cache of fixed size in `static_cache`
torchscript        engine `torchscript`, over the module traced by `trace`
device             the device, and the number of threads
decoding           decodes a batch
probe              the logits by which models are compared
explicit_forward   a model's forward pass with its state as tensor arguments
weights            loads the weights in the requested type
"""
