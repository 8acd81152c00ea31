"""How dates and times are written, by language: the same on every page, and short enough for one line of a table."""
