"""A study as a folder that others can check: written, verified, run again.

export      from the store to a package
verify      everything in a package that can be computed, computed again
reproduce   the package's plan on this machine, claim by claim
"""
