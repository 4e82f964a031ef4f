"""NVIDIA GPUs: energy and power (`meter`), state (`gauges`), who computes (`processes`)."""
