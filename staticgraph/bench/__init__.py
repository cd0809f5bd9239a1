"""Benchmarks of kernels against NumPy and other libraries: `staticgraph bench`."""
