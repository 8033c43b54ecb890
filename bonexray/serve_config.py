"""The section `serve` of params.yaml: how the champion answers, and how much it takes."""

from typing import Annotated, Literal

from pydantic import Field

from bonexray.section import Positive, Section


class ServeConfig(Section):
    """What a server does with requests. Its places and secrets are flags."""

    precision: Literal["int8", "fp32"]
    """`int8` where the bundle holds such a network and the CPU multiplies it, else `fp32`."""
    max_body_mib: Annotated[int, Field(ge=1, le=1024)]
    """Largest body of a request; four of them are held at a time."""
    max_views: Annotated[int, Field(ge=1, le=1024)]
    """Of all studies of a request."""
    deadline_s: Annotated[float, Field(ge=0.1, le=600)]
    """From a request's first byte to its answer; a client may ask for less. Who would wait for more
    than half of it is sent away at once."""
    lame_duck_s: Annotated[float, Field(ge=0, le=60)]
    """How long a server that was told to stop, and says so to load balancers, still takes
    requests."""
    requests_per_minute: Positive
    """Of one client."""
