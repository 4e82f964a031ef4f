"""NVIDIA GPUs: energy and power (`meter`), utilization, clocks and temperature (`gauges`)."""
