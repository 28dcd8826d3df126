"""Vitexco: exemplar-based video colorization with a Vision Transformer."""

__version__ = '0.1.0'
