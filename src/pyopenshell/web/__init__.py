"""The approval inbox in a browser on this machine. Speaks to the gateway through `pyopenshell.client` only.

Light at import: starlette and uvicorn load with `web.server`, not before.
"""
