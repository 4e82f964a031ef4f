"""How the program ends, as a number. Where several apply, it is the first of this file's order."""

INTERRUPTED = 130
"""Ctrl-C, SIGTERM or SIGHUP."""
STOPPED = 2
"""The command cannot be carried out, or not to its end."""
FAILED = 1
"""Some trial, section of a report, check or comparison is not as it should be."""
UNSENT = 3
"""All trials are valid, but some records wait on disk because the store did not take them."""
UNWRITTEN = 4
"""All went well, but some output could not be written."""
GOOD = 0
"""All went well."""

HELP = """\
exit codes; where several apply, the first of 130, 2, 1, 3, 4:
  0    all went well
  1    a trial is failed, invalid or missing; something is wrong or worse
  2    cannot go on: the configuration or the environment must change first
  3    all is measured but not all is sent: slm-energy sync sends the rest
  4    all went well, but output was lost (disk full, closed, reader gone)
  130  interrupted: the same command resumes"""
