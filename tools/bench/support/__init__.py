"""What the benchmarks share. Not a benchmark itself, so it lies beside none of them."""
