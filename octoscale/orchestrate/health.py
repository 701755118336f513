"""Whether Ray is installed, and answers."""

from octoscale.errors import OctoscaleError
from octoscale.orchestrate.cluster import connected
from octoscale.orchestrate.jobs import JobServer

try:
    import ray
except ImportError as error:
    raise OctoscaleError(f"Ray is not installed ({error}); pip install 'octoscale[ray]'") from error


def reached(address: str) -> str:
    """What is found at a cluster's address: ``auto``, ``host:port``, or its job server's ``http://host:8265``.

    Raises:
        OctoscaleError: it is no such address, nobody answers, or the cluster wants a token.
    """
    if "://" in address:
        return f"{len(JobServer(address).jobs())} runs were submitted to {address}"
    with connected(address, 1):
        nodes = [node for node in ray.nodes() if node["Alive"]]
        resources = ray.cluster_resources()
        counts = ", ".join(f"{int(resources.get(kind, 0))} {kind}s" for kind in ("GPU", "CPU"))
        return f"{len(nodes)} nodes with {counts} at {address}"
