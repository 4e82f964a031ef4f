"""From what a worker and the sampler recorded to figures: pure functions of a capture.

energy    joules of a window, with their interval
metrics   every metric of a trial
checks    what makes a trial invalid, or flags it
quality   tokens compared with the reference engine's
"""
