"""Which GPUs there are."""
