"""The networks: one file per box of Figs. 2 and 3; additions have their own files."""
