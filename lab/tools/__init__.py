"""Programs in Go that tests and benchmarks run, built once for this machine."""
