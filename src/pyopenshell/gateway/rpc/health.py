"""Is the gateway there, who am I to it, and what can it do (contract/gateway.md 1.1)."""

from __future__ import annotations

import dataclasses
from importlib import metadata

from pyopenshell.drivers.base import Driver
from pyopenshell.gateway.principals import Caller
from pyopenshell.wire.gen import openshell_pb2

VERSION = metadata.version("pyopenshell")


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """Servicer of Health, GetCurrentUser and GetGatewayInfo."""

    driver: Driver

    async def Health(self, request: openshell_pb2.HealthRequest, caller: Caller) -> openshell_pb2.HealthResponse:
        return openshell_pb2.HealthResponse(status=openshell_pb2.SERVICE_STATUS_HEALTHY, version=VERSION)

    async def GetCurrentUser(
        self, request: openshell_pb2.GetCurrentUserRequest, caller: Caller
    ) -> openshell_pb2.GetCurrentUserResponse:
        user = caller.user
        return openshell_pb2.GetCurrentUserResponse(
            subject=user.subject,
            display_name=user.display_name,
            roles=sorted(user.roles),
            scopes=sorted(user.scopes),
            identity_provider=user.provider,
        )

    async def GetGatewayInfo(
        self, request: openshell_pb2.GetGatewayInfoRequest, caller: Caller
    ) -> openshell_pb2.GetGatewayInfoResponse:
        drivers = [
            openshell_pb2.ComputeDriverInfo(
                name=name,
                capabilities=openshell_pb2.ComputeDriverCapabilities(
                    driver_name=name, driver_version=self.driver.version
                ),
            )
            for name in self.driver.capabilities
        ]
        return openshell_pb2.GetGatewayInfoResponse(
            status=openshell_pb2.SERVICE_STATUS_HEALTHY, gateway_version=VERSION, compute_drivers=drivers
        )
