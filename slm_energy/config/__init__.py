"""From the command line to checked settings.

groups        what a run can be set to: one class per folder of conf/
options       the keys of `report`, `compare` and `ui`
key           how meaning and range of a key are declared beside its type and default
keys          all keys, for help and the key reference
check         ranges and types; a wrong key or value is one line
compose       Hydra: one configuration, or the whole grid
combinations  the grid's configurations, composed without going through Hydra for each
"""
