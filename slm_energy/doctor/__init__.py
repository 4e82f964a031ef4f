"""Can this machine measure? `examine(config, folder)` looks, `show` prints what it found."""

from slm_energy.doctor.diagnosis import Diagnosis, examine
from slm_energy.doctor.finding import Finding
from slm_energy.doctor.show import show

__all__ = ["Diagnosis", "Finding", "examine", "show"]
