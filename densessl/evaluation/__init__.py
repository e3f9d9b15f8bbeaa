"""What was learned: scores, curves and the report."""
