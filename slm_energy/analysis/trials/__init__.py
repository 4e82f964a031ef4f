"""Stored trials as tables: one row a trial (`frame`), and its blocks of rounds (`blocks`)."""
