"""The report: what sweeps and attacks measured, as one page with the paper's tables and figures.

`study` reads, `tables` and `figures` and `pictures` show, `page` writes.
"""
