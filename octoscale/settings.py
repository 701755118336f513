"""The base of every configuration block. Each block sits beside the component it configures."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """An immutable block of settings that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
