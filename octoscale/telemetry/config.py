"""What a run shows of itself."""

from pydantic import Field

from octoscale.settings import Settings


class TelemetryConfig(Settings):
    """Prometheus endpoint of each rank, and the log."""

    metrics: bool = Field(True, description="serve /metrics")
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=0, le=65535, description="rank r serves port + r; 0: any free port")
    log_every_steps: int = Field(10, ge=1)
