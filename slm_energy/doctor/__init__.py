"""Whether this machine can measure: `examine(config, folder)` checks, `show` prints the result.

calibrate    compare sources with a reference: load, calibration_curves, calibration_fit

contention   foreign load, steal time, another sweep
diagnosis    all checks, and the conclusion
finding      the result of one check
gpu          NVIDIA and AMD GPUs
places       free disk space, the store
processor    frequency, turbo, SMT, throttling, RAPL filter
sensors      energy sources, RAPL permissions
show         output on a terminal
system       memory, clocks, power supply, virtual machine or container
"""

from slm_energy.doctor.diagnosis import Diagnosis, examine
from slm_energy.doctor.finding import Finding
from slm_energy.doctor.show import show

__all__ = ["Diagnosis", "Finding", "examine", "show"]
