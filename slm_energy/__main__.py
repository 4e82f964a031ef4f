"""`python -m slm_energy` and the console script `slm-energy`; everything is in `slm_energy.cli`."""

from slm_energy.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
