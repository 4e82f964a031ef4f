"""What a report looks like: every page, table, figure and file is made from `result.Report`.

files        every file of a report, by name
html         the page; `page` says what stands where, `templates/` lays it out
figures      pictures, drawn with `svg`; `ranks` is the critical difference diagram
latex        tables for a paper
tables       tables as plain text; `behind` has those behind a verdict
generated    what models wrote, for a person to look at
escape       text from runs, made harmless
"""
