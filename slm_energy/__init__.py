"""slm_energy: what does a serving configuration cost a code Small Language Model, in joules?"""

__version__ = "0.1.0"
