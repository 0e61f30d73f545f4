"""The report: one page with the results of sweeps and attacks, in the tables and figures of the paper.

`study` reads the results. `tables`, `figures` and `pictures` show them. `page` writes the page.
"""
