"""Who may talk to the web inbox: this machine's browser, on this page, with this session; everybody else is refused.

Answers DNS rebinding (Host), cross-site requests (Origin, Sec-Fetch-Site, SameSite), framing and injected content
(CSP): attacks G-17 and C-3. Knows nothing of proposals.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "x-dns-prefetch-control": "off",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
LOGIN = "/login"
EXPIRED = "This link was used already, or is not from this run of `openshell web`. Start it again for a new one.\n"


class Session:
    """One browser. The login token is good for one exchange; the cookie for as long as the server runs.

    Browsers send a cookie to every port of a host, so to whatever else listens on this machine. A path is what keeps
    it to this server: everything lives below `home`, which nobody else knows.
    """

    def __init__(self, port: int) -> None:
        self.login_token = secrets.token_urlsafe(32)
        self._unused = True
        self._cookie = secrets.token_urlsafe(32)
        self.cookie_name = f"openshell-{port}"  # cookies do not tell ports apart
        self.home = f"/{secrets.token_urlsafe(16)}/"

    def login(self, token: str) -> Response:
        """The cookie for the token, once."""
        fits = secrets.compare_digest(token.encode(), self.login_token.encode())
        if not fits or not self._unused:
            return PlainTextResponse(EXPIRED, 403)
        self._unused = False
        response = RedirectResponse(self.home, 303)
        response.set_cookie(self.cookie_name, self._cookie, httponly=True, samesite="strict", path=self.home)
        return response

    def known(self, headers: Headers) -> bool:
        shown = cookie_parser(headers.get("cookie", "")).get(self.cookie_name, "")
        return secrets.compare_digest(shown.encode(), self._cookie.encode())


class Guard:
    """ASGI middleware around everything."""

    def __init__(self, app: ASGIApp, session: Session, port: int) -> None:
        self._app, self._session = app, session
        self._hosts = frozenset((f"127.0.0.1:{port}", f"localhost:{port}"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        if scope["path"] != LOGIN:
            scope = {**scope, "root_path": self._session.home.removesuffix("/")}
        await (refusal or self._app)(scope, receive, guarded)

    def _refusal(self, method: str, path: str, headers: Headers) -> Response | None:
        """Why not, None when it may pass."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return PlainTextResponse("This is not the address of this server.\n", 421)
        if method not in ("GET", "POST"):
            return PlainTextResponse("Method not allowed.\n", 405)
        if path == LOGIN:
            return None  # the token in it is what is asked for
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return PlainTextResponse("Another site sent this request.\n", 403)
        if method == "POST":
            if headers.getlist("origin") != [f"http://{hosts[0]}"]:
                return PlainTextResponse("Another site sent this request.\n", 403)
            if headers.get("content-type", "") != "application/json":
                return PlainTextResponse("application/json is expected.\n", 415)
        if not path.startswith(self._session.home) or not self._session.known(headers):
            return PlainTextResponse("Not logged in: open the link that `openshell web` printed.\n", 403)
        return None
