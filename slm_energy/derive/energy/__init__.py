"""Energy of a window, from readings of counters and of power.

accounting        one source in one window, and the sum over sources
counters          energy counters: wraps, resets, steps
power             power readings, integrated
window_edges      counter energy at a window's start and end
usable_readings   selection of readings, and gaps
crosscheck        two views of the same energy
"""
