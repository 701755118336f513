"""Read the metrics that ranks serve, as Prometheus would."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

_THREADS = 32
# Nothing that a rank serves is nearly as long.
_MOST_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Sample:
    """One value of one series: ``octoscale_loss``, of a histogram ``…_sum``, ``…_count`` or ``…_bucket``."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Scrape:
    """What one address answered: samples, or `fault`, why there are none."""

    address: str
    samples: tuple[Sample, ...] = field(default=(), repr=False)
    fault: str | None = None


def parse(text: str) -> tuple[Sample, ...]:
    """The samples of the text format. Raises ValueError."""
    return tuple(
        Sample(sample.name, sample.labels, float(sample.value))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    )


def scrape(addresses: Sequence[str], *, timeout_seconds: float) -> list[Scrape]:
    """Ask every address, ``host:port`` or a URL, at once; none of them can raise or hold the others up."""
    if not addresses:
        return []
    with ThreadPoolExecutor(min(_THREADS, len(addresses))) as threads:
        return list(threads.map(lambda address: _scrape(address, timeout_seconds), addresses))


def url_of(address: str) -> str:
    """The URL of a metrics endpoint: ``http://`` and ``/metrics`` where they are left out."""
    url = address if "://" in address else f"http://{address}"
    scheme, _, rest = url.partition("://")
    return url if "/" in rest.rstrip("/") else f"{scheme}://{rest.rstrip('/')}/metrics"


def _scrape(address: str, timeout_seconds: float) -> Scrape:
    # Ranks are reached as they are, not through a proxy that the surroundings may name.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url_of(address), timeout=timeout_seconds) as answer:
            text = answer.read(_MOST_BYTES).decode()
        return Scrape(address, parse(text))
    except urllib.error.HTTPError as error:
        return Scrape(address, fault=f"HTTP {error.code}")
    except urllib.error.URLError as error:
        reason = error.reason
        return Scrape(address, fault=getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)
    except (OSError, http.client.HTTPException) as error:
        return Scrape(address, fault=getattr(error, "strerror", None) or str(error) or type(error).__name__)
    except ValueError:
        return Scrape(address, fault="no metrics in its answer")
