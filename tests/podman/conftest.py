from tests.drivers.conftest import box, state

__all__ = ["box", "state"]
