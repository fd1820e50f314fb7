"""The data plane of one sandbox: doors, admission, relays. `Plane` is its only face besides the values it is given."""

from pyopenshell.supervisor.proxy.context import Limits, LocalHandler, LocalResponse, PlaneContext
from pyopenshell.supervisor.proxy.plane import Plane
from pyopenshell.supervisor.proxy.tls import CertificateAuthority

__all__ = ["CertificateAuthority", "Limits", "LocalHandler", "LocalResponse", "Plane", "PlaneContext"]
