"""Build the reference model, run it, count what it really does, and compare with the formulas."""
