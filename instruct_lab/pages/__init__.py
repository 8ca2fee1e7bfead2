"""Building blocks of reports (formatted values, Markdown tables, HTML pages), and the reports about an audit.

An audit is the record of what data preparation did to the rows. The functions turn plain values or an audit into text
for a terminal, Markdown or self-contained HTML pages.

- `format`: formatting of each kind of value as text
- `render`: HTML from the templates in `templates/`
- `histogram`, `facts`, `word_difference`: parts of pages; facts are values in an audit other than counts of rows
- `audit_stages`, `audit_table`, `audit_page`: an audit in the terminal and as an HTML page
"""
