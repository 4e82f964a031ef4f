"""What is to be run, before anything is.

grid     from configurations to cells: labels, exclusions, what cannot run here
plan     cells and rounds, what is done, what to expect
order    the order within a round
freeze   what a plan rests on: code, settings, versions
"""
