"""Measurements against the budgets of design section 6; nothing here is a test."""
