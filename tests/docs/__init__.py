"""What exists in the code stands in docs/."""
