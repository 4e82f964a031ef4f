"""From the command line to checked settings.

groups        what can be set: one class per folder of conf/
check         ranges and types; a wrong key or value is one line
compose       Hydra: one configuration, or the whole grid
combinations  the grid's configurations, composed without going through Hydra for each
"""
