"""Evaluation: protocols, metrics, baselines, reports."""
