"""What only the running service knows: its queue (-bp), trying it now (-q), and whether an address is good (-bv)."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from waypost.sendmail.box import EX_NOUSER, EX_OK, EX_UNAVAILABLE, EX_USAGE, Place, Refusal

_HEAD = "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------"


def list_queue(place: Place) -> int:
    """Print the queue as mailq(1) does, and what waits in the pickup directory where it may be listed."""
    entries = list(_entries(place))
    if not entries:
        sys.stdout.write("Mail queue is empty\n")
        return EX_OK
    sys.stdout.write(f"{_HEAD}\n")
    octets = messages = 0
    for _, of_one in groupby(entries, key=lambda entry: entry["id"]):
        listed = list(of_one)
        messages, octets = messages + 1, octets + int(listed[0]["size"])
        sys.stdout.write("\n".join(_lines(listed)) + "\n\n")
    sys.stdout.write(f"-- {max(octets // 1024, 1)} Kbytes in {messages} Request{'s' if messages > 1 else ''}.\n")
    return EX_OK


def _entries(place: Place) -> Iterator[Mapping[str, Any]]:
    after = ""
    while True:
        page = _asked(place, "GET", f"/api/queue?limit=1000&after={after}")
        yield from page["entries"]
        after = page["next"]
        if not after:
            return


def _lines(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    first = entries[0]
    mark = "!" if first["state"] == "held" else "*" if first["state"] == "in delivery" else " "
    came = time.strftime("%a %b %e %H:%M:%S", time.localtime(first["received_at"]))
    yield f"{first['id']}{mark} {first['size']:>7} {came}  {first['reverse_path'] or 'MAILER-DAEMON'}"
    for entry in entries:
        why = entry["reason"] or entry["last_outcome"]
        if why:
            yield f"({why})"
        yield f"{'':41}{entry['forward_path']}"


def flush(place: Place, wanted: str) -> int:
    """Have the queue tried now: all, or of `-qI` an id, `-qR` a domain or recipient, `-qS` a sender."""
    kind, text = wanted[:1], wanted[1:]
    if not wanted:
        selection: dict[str, object] = {"everything": True}
    elif kind == "I":
        selection = {"ids": [text]}
    elif kind in {"R", "S"}:
        selection = {"address" if "@" in text else "domain": text.lstrip("@")}
    else:
        raise Refusal(EX_USAGE, f"-q{wanted} is not for this program; the service tries its queue by itself")
    _asked(place, "POST", "/api/queue/retry", {**selection, "by": "waypost-sendmail"})
    return EX_OK


def verify(place: Place, sender: str, recipients: Sequence[str]) -> int:
    """Say what would be answered for each recipient; nothing is sent."""
    answer = _asked(place, "POST", "/api/explain", {"recipients": list(recipients), "reverse_path": sender})
    for journey in answer["journeys"]:
        sys.stdout.write(f"{journey['recipient']}... {journey['reply']}\n")
    return EX_OK if all(journey["is_taken"] for journey in answer["journeys"]) else EX_NOUSER


def _asked(place: Place, method: str, path: str, body: Mapping[str, object] | None = None) -> Mapping[str, Any]:
    """The service's answer. Raises: Refusal, where it does not run or does not do so."""
    connection = http.client.HTTPConnection(place.admin, timeout=30)
    try:
        content = json.dumps(body).encode() if body is not None else None
        connection.request(method, path, content, {"X-Waypost": "1", "Content-Type": "application/json"})
        answer = connection.getresponse()
        found = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Refusal(
            EX_UNAVAILABLE, f"the service does not answer at {place.admin} ({error}): is it running?"
        ) from None
    finally:
        connection.close()
    if answer.status != 200:
        raise Refusal(EX_UNAVAILABLE, f"{found.get('error', answer.reason)}; {found.get('remedy', '')}")
    return dict(found)
