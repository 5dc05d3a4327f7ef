"""What looks like a secret, taken out of the text of errors before that is written anywhere.

Values of tasks are the caller's and stay as they are.
"""

import os
import re
from collections.abc import Mapping

__all__ = ["Redactor"]

SHORTEST = 8
"""Shorter values of the environment stand in too many words to be looked for."""

MASK = "[redacted]"

_NAMED = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
# No part is looked for twice at each place of a long text: what may fail late is bounded.
_SHAPES = re.compile(
    r"""
    \bsk-[\w-]{16,} | \bAKIA[0-9A-Z]{16} | \bgh[pousr]_\w{20,} | \bgithub_pat_\w{20,}
    | \bxox[abprs]-[\w-]{10,} | \bAIza[\w-]{30,} | \beyJ[\w-]{5,512}\.[\w-]{5,}\.[\w-]*
    | (?<=://)[^\s/@:]+:[^\s/@]+(?=@)
    | (?i:(?<=bearer[ ])[\w.~+/=-]{8,})
    | (?i:(?<=[?&]key=)[^\s&"']+ | (?<=api_key=)[^\s&"',]+ | (?<=token=)[^\s&"',]+
        | (?<=password=)[^\s&"',]+ | (?<=secret=)[^\s&"',]+)
    """,
    re.VERBOSE,
)


class Redactor:
    """Mask, in a text, the shapes of well-known keys and what the environment keeps secret.

    The cost is linear in the length of the text; who cuts it cuts afterwards, since a secret that
    is cut in two is not found.

    Args:
        environ: variables; the values of those whose name speaks of a secret are masked.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        given = os.environ if environ is None else environ
        secrets = {
            value for name, value in given.items() if _NAMED.search(name) and len(value) >= SHORTEST
        }
        self._secrets = sorted(secrets, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Give the text with its secrets masked."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return _SHAPES.sub(MASK, text)
