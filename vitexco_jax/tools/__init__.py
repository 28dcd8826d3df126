"""Benchmark, demo, export."""
