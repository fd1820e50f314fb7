"""RPCs for the sandbox that proposed something: look at its own proposals and hear of decisions. Thin."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Final

from pyopenshell.gateway.bus import Bus
from pyopenshell.gateway.inbox import Inbox
from pyopenshell.gateway.principals import Caller
from pyopenshell.wire.gen import pyopenshell_pb2

RESENT: Final = 256
"""Newest proposals told again to a reader that missed some."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProposalService:
    """Servicer of pyopenshell.v1.Proposals. Nobody but the calling sandbox itself is ever named."""

    bus: Bus
    inbox: Inbox

    async def GetProposal(
        self, request: pyopenshell_pb2.GetProposalRequest, caller: Caller
    ) -> pyopenshell_pb2.ProposalState:
        return await self.inbox.state(caller.sandbox_id, request.chunk_id)

    async def WatchProposals(
        self, request: pyopenshell_pb2.WatchProposalsRequest, caller: Caller
    ) -> AsyncIterator[pyopenshell_pb2.ProposalState]:
        sandbox_id = caller.sandbox_id
        with self.bus.subscribe(f"proposals:{sandbox_id}") as changes:
            async for message in changes:
                if message.dropped:
                    for state in await self.inbox.states(sandbox_id, RESENT):
                        yield state
                else:
                    yield message.payload

    async def GetLeases(
        self, request: pyopenshell_pb2.GetLeasesRequest, caller: Caller
    ) -> pyopenshell_pb2.GetLeasesResponse:
        return await self.inbox.leases.schedule(caller.sandbox_id)
