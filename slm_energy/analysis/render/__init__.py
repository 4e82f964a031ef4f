"""What a report looks like: pages, tables, figures and files, made from plain results.

files                every file of a report, by name
terminal, markdown   the report as text; `summary_tables` has their tables
html                 the page; `page` has its contents, made of `page_blocks`, `templates/` its
                     layout
figures              diagrams of a page; `critical_difference` is one of its own
latex                tables for a paper
tables               tables as plain text; `supporting_tables` has those that support a verdict
energy_breakdown     where the energy goes, for a figure
generated            samples of generated code
external_tables      what a table measured elsewhere adds
study_comparison     one study against another
"""
