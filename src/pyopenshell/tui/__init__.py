"""The approval inbox as a full-screen terminal program. Speaks to the gateway through `pyopenshell.client` only.

Light at import: textual loads with `tui.app`, not before.
"""
