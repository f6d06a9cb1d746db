"""From one configuration to the next: what cannot change while the service runs, and what a revision is called. Pure.

Not here: putting one in force (app), and what that would do to mail (admin/preview.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from waypost.config.load import Config
from waypost.config.model import Listener

#: What is built once, for the life of the process, and why.
_FIXED: Final = {
    "service.hostname": "every part of the service has it",
    "service.postmaster": "every part of the service has it",
    "service.spool": "the queue is in it",
    "service.workers": "each has a part of the spool",
    "service.user": "the process is somebody's already",
    "service.stop_within": "the end is planned",
    "service.allow_ephemeral": "the spool is opened with it",
    "service.on_damage": "the spool is opened with it",
    "limits.free_space": "the spool is opened with it",
    "limits.memory": "messages that are coming in are counted by it",
    "limits.deliveries": "the marks of final dots beside the spool are as many",
    "limits.resent": "messages sent again are known by it",
    "admin": "who asks would be cut off",
    "pickup": "the directory is being watched",
    "hooks": "their code is loaded",
    "fetches": "providers are being called",
    "log": "the log is open",
    "tracing": "spans are being sent by it",
    "dns": "answers are remembered by it",
    "tls_reporting": "a day's counts are under way",
    "cluster": "the database and the store are being worked with by it",
    "notices": "what is to be told is being gathered",
}


def revision(text: str) -> str:
    """The name of a configuration by its text: the same text has the same name."""
    return sha256(text.encode()).hexdigest()[:10]


def needs_restart(old: Config, new: Config) -> Sequence[str]:
    """What differs that cannot change while the service runs, a sentence each."""
    changed = [(name, why) for name, why in _FIXED.items() if _value(old, name) != _value(new, name)]
    if old.oauth != new.oauth or old.auth.token_key_file != new.auth.token_key_file:
        changed.append(("[[oauth]]", "tokens are being kept fresh by it"))
    if _web(old) != _web(new):
        changed.append(('the listeners of role "http"', "requests are under way there"))
    return [f"{name} changed, and {why}: that needs a restart" for name, why in changed]


def _web(config: Config) -> Sequence[Listener]:
    return [listener for listener in config.listeners if listener.role == "http"]


def _value(config: Config, name: str) -> object:
    section, _, key = name.partition(".")
    if name == "service.spool":
        return config.spool
    found = getattr(config, section)
    return getattr(found, key) if key else found
