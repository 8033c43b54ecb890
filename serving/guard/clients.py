"""The file that says who may ask: tokens by their digest, and who issues tokens besides.

    {"clients": [{"name": "pacs-gateway", "sha256": "<of the token>", "scopes": ["infer", "read"],
                  "expires": "2027-06-30T00:00:00Z"}],
     "issuers": [{"name": "hospital", "issuer": "https://login.example.org/realms/hospital",
                  "audience": "bonexray", "keys": "jwks.json", "algorithms": ["RS256"],
                  "scope_claim": "scope", "scopes": {"bonexray.infer": "infer"}}]}

A token itself stands nowhere: whoever reads the file cannot ask with it.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from bonexray.errors import ConfigError
from bonexray.sealed import Sha256

ANONYMOUS = "anonymous"
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class Scope(StrEnum):
    """What a client may do."""

    INFER = "infer"
    """Have studies read."""
    READ = "read"
    """Read what the model takes and gives: metadata and the description of the API."""


Scopes = Annotated[frozenset[Scope], Field(min_length=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Client(_Entry):
    """One token. A client that is given a new one has two entries until the old one is gone."""

    name: Name
    """Under which its requests are counted and logged."""
    sha256: Sha256
    """Of the token, in hexadecimal digits."""
    scopes: Scopes
    expires: AwareDatetime | None = None
    """From then on the token is refused."""

    @model_validator(mode="after")
    def _has_a_name_of_its_own(self) -> "Client":
        if self.name == ANONYMOUS:
            raise ValueError(f"name: {ANONYMOUS!r} is whoever asks where no file is given")
        return self


class Issuer(_Entry):
    """Who issues JSON Web Tokens that are accepted."""

    name: Name
    """Before the subject of its tokens, in the name of a client."""
    issuer: Annotated[str, Field(min_length=1)]
    """The claim `iss`."""
    audience: Annotated[str, Field(min_length=1)]
    """The claim `aud`, or one of its values."""
    keys: Path
    """File of its public keys, beside this one: a JWK set, or one key as PEM."""
    algorithms: Annotated[frozenset[Algorithm], Field(min_length=1)]
    """Those of public keys only: with a shared key, who verifies could issue."""
    scope_claim: Annotated[str, Field(min_length=1)]
    """The claim that says what the client may do: words in a text, or a list of texts."""
    scopes: Annotated[dict[str, Scope], Field(min_length=1)]
    """What the issuer calls a scope -> the scope."""


class Clients(_Entry):
    """The whole file."""

    clients: tuple[Client, ...] = ()
    issuers: tuple[Issuer, ...] = ()

    @model_validator(mode="after")
    def _no_two_alike(self) -> "Clients":
        for field, values in (
            ("clients: sha256", [client.sha256 for client in self.clients]),
            ("issuers: name", [issuer.name for issuer in self.issuers]),
            ("issuers: issuer", [issuer.issuer for issuer in self.issuers]),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"{field}: two entries have the same, expected one of each")
        return self


def read_clients(path: Path) -> Clients:
    """Read the file.

    Raises:
        ConfigError: it cannot be read, or a field is not what it should be. Names the field and
            never what stands in it, which may be a token by mistake.
    """
    try:
        return Clients.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ConfigError(
            f"{path}: {_complaint(first['loc'], first['type'], first['msg'])}"
        ) from None


def _complaint(location: tuple[int | str, ...], kind: str, message: str) -> str:
    steps = list(location)
    if kind == "extra_forbidden" or "scopes" in steps[:-1]:
        steps.pop()  # a name of the writer's choice
    field = ".".join(map(str, steps)) or "the file"
    if kind == "json_invalid":
        return "is not JSON"
    if kind == "extra_forbidden":
        return f"{field}: has a field that is not known here"
    return f"{field}: {message[0].lower()}{message[1:]}"
