"""Metrics as Prometheus scrapes them, of applications and of sidecars, and as nobody else does."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lab.check.model import BrokenError, Check, Judge, Place, Site, all_of
from zt.model import Service
from zt.wellknown import SIDECAR_METRICS

_PATIENCE = 10.0
_REFUSED = 3.0
_OK = 200
_OF_SIDECAR, _OF_APPLICATION = "/stats/prometheus", "/metrics"
_DOMAIN = "svc.cluster.local"


def metrics(site: Site) -> Iterator[Check]:
    """Who scrapes does so by pod and by service; who does not is refused."""
    yield from all_of("scrape", _scrapes(site))
    yield from all_of("scrape refused", _strangers(site))


def _scrapes(site: Site) -> Iterator[tuple[str, Judge]]:
    for source in site.of(site.effective.mesh.infrastructure.metrics):
        for place in site.places:
            if place.has_sidecar:
                judge = partial(scraped, site, source, place.address, SIDECAR_METRICS, _OF_SIDECAR)
                yield f"the sidecar of {place.name}", judge
        for grant in source.declared.upstreams:
            service = grant.destination
            if isinstance(service, Service) and site.of(service.name) and _is_here(site, service):
                host = f"{service.name}.{service.namespace}.{_DOMAIN}"
                judge = partial(scraped, site, source, host, grant.port, _OF_APPLICATION)
                yield f"{service.name}:{grant.port}", judge


def _is_here(site: Site, service: Service) -> bool:
    return service.cluster == site.cluster


def scraped(site: Site, source: Place, host: str, port: int, path: str) -> str:
    """Metrics in Prometheus' text format.

    Raises:
        BrokenError: if there are none.
    """
    answer = site.ask(source, mode="http", host=host, port=port, path=path, timeout=_PATIENCE)
    said = answer["answer"] or {}
    found = families(said["body"]) if said.get("status") == _OK else 0
    if not found:
        raise BrokenError(f"{host}:{port}{path} gives no metrics: {str(answer)[:200]}")
    return f"{found} families"


def families(body: object) -> int:
    """How many families of metrics a text has."""
    lines = body.splitlines() if isinstance(body, str) else []
    return sum(line.startswith("# TYPE ") for line in lines)


def _strangers(site: Site) -> Iterator[tuple[str, Judge]]:
    """Each pod that does not scrape, at the sidecar of the next."""
    scrapes = site.effective.mesh.infrastructure.metrics
    targets = [place for place in site.places if place.has_sidecar]
    for number, source in enumerate(site.places):
        target = targets[number % len(targets)] if targets else source
        if target is source:
            target = targets[(number + 1) % len(targets)] if targets else source
        if source.declared.service.name != scrapes and target is not source:
            yield f"{source.name} at {target.name}", partial(_refused, site, source, target)


def _refused(site: Site, source: Place, target: Place) -> str:
    answer = site.ask(
        source,
        mode="http",
        host=target.address,
        port=SIDECAR_METRICS,
        path=_OF_SIDECAR,
        timeout=_REFUSED,
    )
    if answer["ok"]:
        raise BrokenError(f"{source.name} scrapes {target.name}")
    return f"refused ({answer['error']})"
