"""The version of this package: what `slm_energy.__version__` is, without the rest of the API."""

__version__ = "0.1.0"
