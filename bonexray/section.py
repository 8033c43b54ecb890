"""What a section of params.yaml is. Which there are is in `config` and `release_config`."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

DNS_LABEL = r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"
"""What Kubernetes takes for a name."""
Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """One section of params.yaml: frozen, every field required, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
