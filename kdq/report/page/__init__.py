"""The page of a study, ``index.html``: its headline, trade-offs, models and their differences in one file."""
