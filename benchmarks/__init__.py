"""How fast a sync is beside the barest script that does the same work; `python -m benchmarks` prints the ratios."""
