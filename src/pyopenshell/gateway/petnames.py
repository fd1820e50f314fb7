"""Names for sandboxes that nobody named: two short words and a number, a DNS label of at most 19 characters."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Container
from typing import Final

LIMIT: Final = 19

_FIRST_WORDS: Final = (
    "able amber apt arctic azure bold brave breezy brisk calm candid civil clear clever cosy crisp daring deft eager "
    "early easy fair famous fleet fond frank fresh gentle glad golden grand green handy happy hardy honest humble "
    "ideal jolly keen kind lively loyal lucid lucky mellow merry mild modest neat nimble noble novel open placid "
    "polite prime proud pure quick quiet rapid ready robust rosy royal sage serene sharp silver simple sleek smart "
    "smooth snug solid sound steady still sunny sure swift tidy tender true trusty upbeat valid vivid warm wise witty "
    "young zesty"
)
_SECOND_WORDS: Final = (
    "adder badger beaver bee bison bobcat camel carp cicada clam cobra condor coral crane crow deer dingo dolphin dove "
    "eagle egret eland ermine falcon ferret finch fox gannet gecko gibbon goose grouse gull hare hawk heron hornet "
    "husky ibex ibis iguana impala jackal jay kestrel kiwi koala krill lark lemur lion llama lynx macaw marten mink "
    "mole moose moth newt ocelot orca osprey otter owl oyster panda parrot pelican perch pigeon plover puffin puma "
    "quail rabbit raven robin salmon seal shark shrew skink sloth snail sparrow squid stoat stork swan tapir tern "
    "tiger toad trout turtle vole walrus wasp weasel whale wolf wombat wren yak zebra"
)

_FIRST: Final = _FIRST_WORDS.split()
_SECOND: Final = _SECOND_WORDS.split()


def petname(taken: Container[str] = (), choose: Callable[[int], int] = secrets.randbelow) -> str:
    """A name not in `taken`. `choose(n)` returns an index below n."""
    while True:
        name = f"{_FIRST[choose(len(_FIRST))]}-{_SECOND[choose(len(_SECOND))]}"
        if name not in taken:
            return name
        name = f"{name}-{choose(1000)}"[:LIMIT].rstrip("-")
        if name not in taken:
            return name
