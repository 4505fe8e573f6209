"""The report as HTML and Markdown: sentences, tables and templates.

Never: computes a result that `hpo.results` or `reports.analysis` owns.
"""
