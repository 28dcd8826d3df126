"""The networks, one file per box of the paper's Fig. 2 and Fig. 3."""
