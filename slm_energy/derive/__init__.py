"""Derive figures from what a worker and the sampler recorded: pure functions of a capture.

energy    joules of a window, with their interval
interval  an energy with its two intervals
metrics   every metric of a trial
checks    checks that make a trial invalid, or flag it
quality   tokens compared with the reference engine's
"""
