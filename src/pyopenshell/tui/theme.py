"""Which colours: what was asked for, else what the terminal says about itself, else dark."""

from __future__ import annotations

from collections.abc import Mapping

from textual.theme import Theme

CHOICES = ("auto", "dark", "light")

DARK = Theme(
    name="openshell-dark",
    primary="#7aa2f7",
    secondary="#9aa5ce",
    accent="#e0af68",
    success="#9ece6a",
    warning="#e0af68",
    error="#f7768e",
    foreground="#d5daf0",
    background="#12141c",
    surface="#171a24",
    panel="#1f2430",
    dark=True,
)
LIGHT = Theme(
    name="openshell-light",
    primary="#2457c5",
    secondary="#5b6478",
    accent="#8a5a00",
    success="#2c6e2f",
    warning="#8a5a00",
    error="#b3203c",
    foreground="#1c2230",
    background="#f7f8fb",
    surface="#ffffff",
    panel="#eceff5",
    dark=False,
)
_LIGHT_BACKGROUNDS = frozenset(("7", "15"))


def choose(wanted: str, environ: Mapping[str, str]) -> str:
    """Name of the theme. `wanted` is auto, dark or light; COLORFGBG (rxvt, Konsole, iTerm) ends in the background."""
    if wanted == "auto":
        wanted = "light" if environ.get("COLORFGBG", "").rsplit(";", 1)[-1] in _LIGHT_BACKGROUNDS else "dark"
    if "NO_COLOR" in environ:
        # textual can leave out colours altogether only where it does not compute them itself.
        return f"ansi-{wanted}"
    return (LIGHT if wanted == "light" else DARK).name
