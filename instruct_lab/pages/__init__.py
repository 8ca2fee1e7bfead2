"""Building blocks of self-contained HTML pages, and the pages and tables of an audit."""
