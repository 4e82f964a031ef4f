"""Meters: one contract (`base`), and a file or folder for each kind of sensor."""
