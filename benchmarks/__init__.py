"""Measurements of Colony: `python -m benchmarks NAME [--json]`."""
