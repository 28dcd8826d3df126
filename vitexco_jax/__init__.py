"""Vitexco: exemplar-based video colorization with a Vision Transformer."""
