"""The scalar types of the policy language: how each is read, and what its JSON Schema is.

A type of the model is ``Annotated[<python type>, <Scalar>]``; ``zt.decode`` reads values with the
scalar, ``zt.schema`` describes them with it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Annotated

from zt.nearest import shown
from zt.spiffe import SpiffePattern, parse_pattern

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

MAX_PORT = 65535
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "y": 365 * 86400}
_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
_DIGITS = 18
_DURATION = re.compile(r"([0-9]{1,9})([smhdy])")
_DAY = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST = re.compile(r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)+[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_MAX_HOST = 253
_ENDPOINT = re.compile(r"([A-Za-z0-9.-]+):([0-9]{1,5})")
_POD_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
# What no terminal, comment or header should be made to carry; a description may have lines.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Scalar:
    """How a scalar is read from YAML.

    ``parse`` takes the text and raises ``ValueError`` with a sentence; ``what`` says in messages
    what was expected; ``tags`` are the YAML types that the text may have.
    """

    parse: Callable[[str], object]
    schema: tuple[tuple[str, object], ...]
    what: str
    tags: tuple[str, ...] = ("str",)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host (name or address) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_name(text: str) -> str:
    """A DNS label (RFC 1123)."""
    if not _LABEL.fullmatch(text):
        raise ValueError(
            f"{shown(text)} is not a name: use lower-case letters, digits and '-', at most 63"
        )
    return text


def parse_host(text: str) -> str:
    """A fully qualified host name, without wildcard (RFC 1123)."""
    if not _HOST.fullmatch(text) or len(text) > _MAX_HOST:
        raise ValueError(f"{shown(text)} is not a host name such as 'api.example.com'")
    return text


def parse_whole(text: str) -> int:
    """A whole number in decimal; YAML 1.1 and 1.2 disagree on all other ways to write one."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(
            f"{shown(text)} is not a plain decimal number: write it with the digits 0 to 9 alone, "
            "without a leading 0"
        )
    if len(text) > _DIGITS:
        raise ValueError(f"{shown(text)} is too large")
    return int(text)


def parse_port(text: str) -> int:
    """A TCP port, 1 to 65535."""
    port = parse_whole(text)
    if not 1 <= port <= MAX_PORT:
        raise ValueError(f"port {port} is out of range: it should be 1 to {MAX_PORT}")
    return port


def parse_positive(text: str) -> int:
    """A whole number from 1."""
    number = parse_whole(text)
    if number < 1:
        raise ValueError(f"{number} is too small: it should be 1 or more")
    return number


def parse_flag(text: str) -> bool:
    """True or false; YAML 1.1 has ten more words for them, which 1.2 reads as text."""
    if text not in ("true", "false"):
        raise ValueError(f"{shown(text)} should be written true or false")
    return text == "true"


def parse_duration(text: str) -> int:
    """A duration such as ``90d``, in seconds."""
    match = _DURATION.fullmatch(text)
    if not match or int(match[1]) == 0:
        raise ValueError(
            f"{shown(text)} is not a duration: write a number and s, m, h, d or y, such as '90d'"
        )
    return int(match[1]) * _SECONDS[match[2]]


def duration(seconds: int) -> str:
    """A number of seconds as ``parse_duration`` reads it, in the largest unit that fits."""
    size, unit = max((size, unit) for unit, size in _SECONDS.items() if seconds % size == 0)
    return f"{seconds // size}{unit}"


def parse_network(text: str) -> Network:
    """A network in CIDR form."""
    try:
        return ipaddress.ip_network(_with_prefix(text))
    except ValueError as error:
        raise ValueError(
            f"{shown(text)} is not a network such as '10.244.0.0/16'{_reason(text, error)}"
        ) from None


def parse_interface(text: str) -> Interface:
    """An address with its prefix length."""
    try:
        return ipaddress.ip_interface(_with_prefix(text))
    except ValueError as error:
        raise ValueError(
            f"{shown(text)} is not an address such as '10.10.0.1/24'{_reason(text, error)}"
        ) from None


def _with_prefix(text: str) -> str:
    if "/" not in text:
        raise ValueError("the prefix length is missing")
    return text


def _reason(text: str, error: ValueError) -> str:
    """What Python says of an address, where it says more than that it is none."""
    if "host bits" in str(error):
        return f": did you mean '{ipaddress.ip_interface(text).network}'?"
    return f": {error}" if "/" not in text else ""


def parse_endpoint(text: str) -> Endpoint:
    """``host:port``."""
    match = _ENDPOINT.fullmatch(text)
    if not match:
        raise ValueError(f"{shown(text)} is not an endpoint such as '24.199.76.156:51820'")
    return Endpoint(match[1], parse_port(match[2]))


def parse_date(text: str) -> date:
    """A day, ISO 8601."""
    match = _DAY.fullmatch(text)
    try:
        return date(*map(int, match.groups() if match else ()))
    except (TypeError, ValueError):
        raise ValueError(f"{shown(text)} is not a day such as '2027-01-31'") from None


def parse_text(text: str) -> str:
    """Any text but an empty one; what cannot be shown cannot stand in it."""
    if not text.strip():
        raise ValueError("it is empty")
    found = _UNPRINTABLE.search(text)
    if found:
        raise ValueError(f"{shown(text)} holds character U+{ord(found[0]):04X}: take it out")
    return text


def parse_label_key(text: str) -> str:
    """Key of a Kubernetes label: a name of at most 63 characters, with or without a prefix."""
    prefix, slash, name = text.rpartition("/")
    if slash and not (_LABEL.fullmatch(prefix) or _HOST.fullmatch(prefix)):
        raise ValueError(f"{shown(text)}: {shown(prefix)} is not the prefix of a label's key")
    if not name or not _POD_LABEL.fullmatch(name):
        raise ValueError(f"{shown(text)} is not the key of a label such as 'app'")
    return text


def parse_label_value(text: str) -> str:
    """Value of a Kubernetes label: at most 63 characters."""
    if not _POD_LABEL.fullmatch(text):
        raise ValueError(f"{shown(text)} is not the value of a label such as 'postgres'")
    return text


def _string(**schema: object) -> tuple[tuple[str, object], ...]:
    return (("type", "string"), *schema.items())


def _number(**schema: object) -> tuple[tuple[str, object], ...]:
    return (("type", "integer"), ("minimum", 1), *schema.items())


def _whole_match(pattern: re.Pattern[str]) -> str:
    return f"^({pattern.pattern})$"


LABEL_KEY = Scalar(parse_label_key, _string(), "text")
LABEL_VALUE = Scalar(parse_label_value, _string(pattern=_whole_match(_POD_LABEL)), "text")

Text = Annotated[str, Scalar(parse_text, _string(minLength=1), "text")]
Name = Annotated[str, Scalar(parse_name, _string(pattern=_whole_match(_LABEL)), "a name")]
HostName = Annotated[
    str,
    Scalar(
        parse_host, _string(pattern=_whole_match(_HOST)), "a host name such as 'api.example.com'"
    ),
]
PortNumber = Annotated[
    int, Scalar(parse_port, _number(maximum=MAX_PORT), "the number of a port", ("int",))
]
Positive = Annotated[int, Scalar(parse_positive, _number(), "a whole number", ("int",))]
Seconds = Annotated[
    int,
    Scalar(parse_duration, _string(pattern=_whole_match(_DURATION)), "a duration such as '90d'"),
]
Cidr = Annotated[
    Network,
    Scalar(parse_network, _string(examples=["10.244.0.0/16"]), "a network such as '10.244.0.0/16'"),
]
Address = Annotated[
    Interface,
    Scalar(
        parse_interface, _string(examples=["10.10.0.1/24"]), "an address such as '10.10.0.1/24'"
    ),
]
HostPort = Annotated[
    Endpoint,
    Scalar(
        parse_endpoint,
        _string(pattern=_whole_match(_ENDPOINT)),
        "an endpoint such as '24.199.76.156:51820'",
    ),
]
# Quoted or not: a day is text to YAML 1.2, and to the editors that read the JSON Schema.
Day = Annotated[
    date,
    Scalar(parse_date, _string(format="date"), "a day such as 2027-01-31", ("timestamp", "str")),
]
# Rules name the same few services over and over: each ID is read once.
Spiffe = Annotated[
    SpiffePattern,
    Scalar(
        lru_cache(maxsize=1 << 14)(parse_pattern),
        _string(pattern="^spiffe://[^/]+/[^/]+/[^/]+/[^/]+$"),
        "a SPIFFE ID",
    ),
]
Flag = Annotated[bool, Scalar(parse_flag, (("type", "boolean"),), "true or false", ("bool",))]


@dataclass(frozen=True, slots=True)
class StringMap:
    """Marks a mapping of text to text, kept as sorted pairs so that it can be frozen."""


Labels = Annotated[tuple[tuple[str, str], ...], StringMap()]
