"""Programs the benchmarks run beside or against the product."""
