"""What a run shows of itself."""

from typing import Literal

from pydantic import Field, model_validator

from octoscale.settings import Settings

RecorderName = Literal["prometheus", "tensorboard", "jsonl", "wandb", "mlflow"]


class TelemetryConfig(Settings):
    """Where the metrics go, and the log."""

    recorders: tuple[RecorderName, ...] = Field(("prometheus",), description="where the metrics go: any of these")
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=0, le=65535, description="rank r serves port + r; 0: any free port")
    folder: str | None = Field(None, description="local folder of targets and files; by default one in the run's own")
    heartbeat_seconds: float = Field(10.0, gt=0, description="how often the next attempt is told how far this one is")
    diagnose_every_steps: int = Field(50, ge=1, description="how often effective rank and hubs are measured")
    peak_flops: float | None = Field(None, gt=0, description="of one device, per second, for octoscale_mfu_ratio")
    log_every_steps: int = Field(10, ge=1)

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> "TelemetryConfig":
        if len(set(self.recorders)) < len(self.recorders):
            raise ValueError(f"each recorder once, not {', '.join(self.recorders)}")
        if self.metrics_port and "prometheus" not in self.recorders:
            raise ValueError("metrics_port belongs to recorders=[prometheus]; drop it or add the recorder")
        if self.peak_flops is not None and not self.recorders:
            raise ValueError("peak_flops applies where metrics are recorded; drop it or name a recorder")
        return self
