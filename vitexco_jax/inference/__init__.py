"""Coloring: the engine, whole films, plans."""
