"""Tools for the rows of any task folder, behind `ftlab data`: `check`, `coverage`, `dedupe`, `noise`, `mix`.

The package is not called `data`, because an installed ftlab has the folder `data/` of the repository under that name.
"""
