"""What requests look like: pydantic models that refuse unknown fields and guess nothing."""

from pydantic import BaseModel, ConfigDict


class Asked(BaseModel):
    """A request's body. A field that isn't known is an error: it was meant to do something."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
