"""Tests mirror src/pyopenshell."""
