"""Benchmarks of the inference server: beside the limit of the machine, and beside other servers."""
