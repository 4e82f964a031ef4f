"""The Python API: what `slm_energy` exports for notebooks and scripts.

stores       which store a call reads
loading      stored trials, generations and readings as DataFrames
sweeps       plan and run a study
reports      the report of a study, or of a table measured elsewhere
recommendations  the configuration that costs least under conditions
comparisons  one study against another
display      the results in a notebook

The functions return plain DataFrames, or frozen results that render themselves. None of them prints
anything but `run`, which reports its progress.
"""
