"""Meters: one contract (`base.py`), one file per kind of source, and the sampling process."""
