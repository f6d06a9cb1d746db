"""From `[dkim]` to what signs our own messages; what is wrong with it.

Not here: the signature (waypost.mail.dkim).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from waypost.config.model import Dkim
from waypost.config.sections import Reader
from waypost.mail.dkim import KeyFileError, Signing, read_key, signing, unsigned


def check_dkim(sections: Sequence[Dkim], base: Path, reader: Reader) -> None:
    """All that a signature needs, or nothing; a key that can be used, and the extra that signs."""
    for section in sections:
        said = [key for key in ("domain", "selector", "key") if getattr(section, key)]
        for key in {"domain", "selector", "key"} - set(said) if said or section.tls_report_selector else set():
            reader.complain(("dkim", key), "is missing", "Write domain, selector and key, or none of them")
        if section.key:
            _check_key(base / section.key, reader)
        if said and importlib.util.find_spec("dkim") is None:
            reader.complain(("dkim", said[0]), "needs the extra dkim", "pip install 'waypost[dkim]'")


def _check_key(file: Path, reader: Reader) -> None:
    try:
        read_key(file.read_bytes())
    except OSError as error:
        reader.complain(("dkim", "key"), f"{file} cannot be read: {error.strerror}", "Let this user read it")
    except KeyFileError as error:
        problem, _, remedy = str(error).partition("; ")
        reader.complain(("dkim", "key"), f"{file} {problem}", f"{remedy[:1].upper()}{remedy[1:]}")


@dataclass(frozen=True, slots=True)
class Signings:
    """What signs all that we write, and what signs TLS reports."""

    usual: Signing = unsigned
    tls_reports: Signing = unsigned


def build_signing(section: Dkim, base: Path) -> Signings:
    """Raises: OSError, KeyFileError, ImportError: what was there at the check is not any more."""
    if not section.key:
        return Signings()
    key = read_key((base / section.key).read_bytes())
    usual = signing(key, domain=section.domain, selector=section.selector)
    if not section.tls_report_selector:
        return Signings(usual, usual)
    return Signings(usual, signing(key, domain=section.domain, selector=section.tls_report_selector))
