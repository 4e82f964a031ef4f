"""Which GPUs there are: `nvidia`, `amd`."""
