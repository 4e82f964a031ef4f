"""Joules of a window, from readings of counters and of power.

accounting        one source in one window, and the sum over sources
counters          energy counters: wraps, resets, steps
power             power readings, integrated
window_edges      what a window's begin and end leave open
usable_readings   readings that can be used, and gaps
crosscheck        two views of the same energy
"""
