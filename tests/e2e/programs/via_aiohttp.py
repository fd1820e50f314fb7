"""METHOD URL: print the body, as a script that uses aiohttp would; it reads the proxy variables only when told to."""

import asyncio
import sys

import aiohttp


async def main() -> None:
    async with (
        aiohttp.ClientSession(trust_env=True) as session,
        session.request(sys.argv[1], sys.argv[2]) as response,
    ):
        print(await response.text(), end="")
        response.raise_for_status()


asyncio.run(main())
