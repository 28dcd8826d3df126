"""Inference: the engine, films, and plans."""
