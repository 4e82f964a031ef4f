"""What is going to run, decided before anything runs.

grid     from configurations to cells: labels, exclusions, what cannot run here
plan     cells and rounds, what is done, expected time and energy
order    the order within a round
freeze   what a plan depends on: code, settings, versions
"""
