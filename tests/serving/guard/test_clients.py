import json

import pytest

from bonexray.errors import ConfigError
from serving.guard.clients import Scope, read_clients

SECRET = "bonexray_DOE-JANE-PATIENT-ID-4711"
CLIENT = {"name": "pacs", "sha256": "a" * 64, "scopes": ["infer"]}
ISSUER = {
    "name": "hospital",
    "issuer": "https://login.example.org",
    "audience": "bonexray",
    "keys": "jwks.json",
    "algorithms": ["RS256"],
    "scope_claim": "scope",
    "scopes": {"bonexray.infer": "infer"},
}


def write(folder, document):
    path = folder / "clients.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_file_names_tokens_and_issuers(tmp_path):
    expiring = {**CLIENT, "sha256": "b" * 64, "expires": "2030-01-01T00:00:00+01:00"}
    read = read_clients(write(tmp_path, {"clients": [CLIENT, expiring], "issuers": [ISSUER]}))
    assert [client.name for client in read.clients] == ["pacs", "pacs"]
    assert read.clients[1].expires.isoformat() == "2030-01-01T00:00:00+01:00"
    assert read.issuers[0].scopes == {"bonexray.infer": Scope.INFER}


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({**CLIENT, "sha256": SECRET}, "clients.0.sha256: "),
        ({**CLIENT, "name": SECRET + "^"}, "clients.0.name: "),
        ({**CLIENT, "name": "anonymous"}, "anonymous"),
        ({**CLIENT, "name": "hospital/pacs"}, "clients.0.name: "),
        ({**CLIENT, "scopes": []}, "clients.0.scopes: "),
        ({**CLIENT, "scopes": [SECRET]}, "clients.0.scopes: "),
        ({**CLIENT, "expires": "2030-01-01T00:00:00"}, "clients.0.expires: "),
        ({**CLIENT, "expires": SECRET}, "clients.0.expires: "),
        ({**CLIENT, SECRET: 1}, "clients.0: has a field that is not known"),
        ({"name": "pacs", "scopes": ["infer"]}, "clients.0.sha256: "),
        (SECRET, "clients.0: "),
    ],
)
def test_a_bad_token_entry_is_named_and_not_repeated(tmp_path, entry, named):
    path = write(tmp_path, {"clients": [entry]})
    with pytest.raises(ConfigError) as caught:
        read_clients(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert named in message
    assert "DOE" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "change",
    [
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"algorithms": []},
        {"audience": ""},
        {"scopes": {}},
        {"scopes": {SECRET: "write"}},
        {"leeway": 3600},
    ],
)
def test_a_bad_issuer_is_refused_without_being_repeated(tmp_path, change):
    path = write(tmp_path, {"issuers": [{**ISSUER, **change}]})
    with pytest.raises(ConfigError, match=r"issuers\.0") as caught:
        read_clients(path)
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize("document", ["", "{", f'"{SECRET}"', "[]", "\x00"])
def test_a_file_that_holds_something_else_is_refused(tmp_path, document):
    with pytest.raises(ConfigError) as caught:
        read_clients(write(tmp_path, document))
    assert "DOE" not in str(caught.value)


def test_the_same_token_or_issuer_twice_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="sha256: two"):
        read_clients(write(tmp_path, {"clients": [CLIENT, {**CLIENT, "name": "other"}]}))
    with pytest.raises(ConfigError, match="name: two"):
        read_clients(write(tmp_path, {"issuers": [ISSUER, {**ISSUER, "issuer": "another"}]}))


def test_a_file_that_is_not_there_is_told_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_clients(tmp_path / "clients.json")
