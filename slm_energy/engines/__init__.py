"""Runtime engines: one contract (`base.py`), one file per engine."""
