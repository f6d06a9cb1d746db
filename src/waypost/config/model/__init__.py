"""The settings there are: one class a section, each key with its meaning, unit, bounds and default.

The manual (docs/reference/config.md) is printed from these classes, and complaints quote them: a text is written once.
What a single value must look like is judged in values.py; how values go together is judged in check.py.
"""

from typing import Final

from waypost.config.model.accounts import Auth, OAuth
from waypost.config.model.clients import Access, Copy, Relay, Senders
from waypost.config.model.domains import MAP_SOURCES, Domain, Map, Rewriting
from waypost.config.model.limits import Dns, HeloMemory, Limits, Retry, Timeouts
from waypost.config.model.reception import Fetch, Listener, Pickup
from waypost.config.model.reporting import Dkim, History, Log, Notices, TlsReporting, Tracing
from waypost.config.model.routes import Destination, Going, Route
from waypost.config.model.service import Admin, Cluster, Hook, Service
from waypost.config.model.strangers import ClientRate, DnsList, Greylist, Screening
from waypost.config.model.tls import Certificate, Tls
from waypost.config.model.values import Kind, Section

__all__ = [
    "ARRAYS",
    "MAP_SOURCES",
    "TABLES",
    "Access",
    "Admin",
    "Auth",
    "Certificate",
    "ClientRate",
    "Cluster",
    "Copy",
    "Destination",
    "Dkim",
    "Dns",
    "DnsList",
    "Domain",
    "Fetch",
    "Going",
    "Greylist",
    "HeloMemory",
    "History",
    "Hook",
    "Kind",
    "Limits",
    "Listener",
    "Log",
    "Map",
    "Notices",
    "OAuth",
    "Pickup",
    "Relay",
    "Retry",
    "Rewriting",
    "Route",
    "Screening",
    "Section",
    "Senders",
    "Service",
    "Timeouts",
    "Tls",
    "TlsReporting",
    "Tracing",
]

#: The file: its tables, and its arrays of tables, in the order of the manual.
TABLES: Final[dict[str, type[Section]]] = {
    "service": Service,
    "tls": Tls,
    "admin": Admin,
    "pickup": Pickup,
    "relay": Relay,
    "access": Access,
    "senders": Senders,
    "screening": Screening,
    "greylist": Greylist,
    "auth": Auth,
    "rewriting": Rewriting,
    "retry": Retry,
    "limits": Limits,
    "timeouts": Timeouts,
    "dns": Dns,
    "history": History,
    "log": Log,
    "helo_memory": HeloMemory,
    "tracing": Tracing,
    "cluster": Cluster,
    "dkim": Dkim,
    "tls_reporting": TlsReporting,
    "notices": Notices,
}

ARRAYS: Final[dict[str, type[Section]]] = {
    "listener": Listener,
    "certificate": Certificate,
    "oauth": OAuth,
    "route": Route,
    "destination": Destination,
    "domain": Domain,
    "map": Map,
    "copy": Copy,
    "hook": Hook,
    "fetch": Fetch,
    "rate": ClientRate,
    "dns_list": DnsList,
}
