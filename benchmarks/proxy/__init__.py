"""The data plane beside its peers: `python -m benchmarks.proxy`."""
