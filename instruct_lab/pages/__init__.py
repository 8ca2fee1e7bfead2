"""Building blocks of reports (formatted values, Markdown tables, HTML pages), and the reports about an audit.

In: plain values, an audit. Out: text for a terminal, Markdown, self-contained HTML pages.

- `format`: one text form for each kind of value
- `render`: HTML from the templates in `templates/`
- `histogram`, `facts`, `word_difference`: parts of pages
- `audit_stages`, `audit_table`, `audit_page`: an audit in the terminal and as a page
"""
