"""What a study runs, decided before anything runs.

grid     from configurations to cells: labels, exclusions, cells that cannot run here
plan     cells and rounds, finished trials, expected time and energy
order    the order within a round
freeze   what a plan depends on: code, settings, versions
"""
