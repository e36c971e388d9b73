"""Pure functions from an architecture and a workload to result trees; no I/O, no torch."""
