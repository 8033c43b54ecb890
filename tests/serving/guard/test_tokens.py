import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bonexray.errors import ConfigError
from serving.guard.clients import Scope, read_clients
from serving.guard.tokens import Doorkeeper, add_client, digest_of, main, new_token
from serving.oip.errors import ForbiddenError, UnauthorisedError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clients.json"


def admitted(path, *scopes, name="pacs", days=None):
    token, entry = new_token(name, scopes or (Scope.INFER,), days)
    add_client(path, entry)
    return token


def test_without_a_file_everybody_is_anonymous_and_may_do_everything():
    keeper = Doorkeeper(None)
    assert keeper.admit(None, Scope.INFER) == "anonymous"
    assert keeper.admit("Bearer x", Scope.READ) == "anonymous"


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_a_token_of_the_file_admits_its_client(path, scheme):
    others = [admitted(path, name=f"other{number}") for number in range(3)]
    token = admitted(path)
    keeper = Doorkeeper(path)
    assert keeper.admit(scheme + token, Scope.INFER) == "pacs"
    assert keeper.admit(scheme + others[1], Scope.INFER) == "other1"


def test_a_token_for_something_else_is_forbidden_and_told_what_it_lacks(path):
    token = admitted(path, Scope.READ)
    with pytest.raises(ForbiddenError) as caught:
        Doorkeeper(path).admit(f"Bearer {token}", Scope.INFER)
    challenge = caught.value.headers()["WWW-Authenticate"]
    assert challenge == 'Bearer realm="bonexray", error="insufficient_scope", scope="infer"'
    assert token not in str(caught.value)


def test_no_credential_is_asked_for_one_and_told_of_no_error(path):
    admitted(path)
    with pytest.raises(UnauthorisedError) as caught:
        Doorkeeper(path).admit(None, Scope.READ)
    assert caught.value.headers() == {"WWW-Authenticate": 'Bearer realm="bonexray"'}


@pytest.mark.parametrize(
    "credential",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer DOE^JANE",
        "Bearer a b",
        "Bearer a\n",
        "Bearer é",
        "Basic cGFjczpwYWNz",
        "bonexray_unknown",
        "Bearer bonexray_unknown",
        "Bearer " + "a" * 20_000,
        "Bearer " + "a" * 4_000 + "." + "b" * 4_000 + "." + "c" * 4_000,
        "Bearer " + digest_of("a"),
        "Bearer ..",
        "Bearer e30.e30.",
        "Bearer " + "W1tb" * 1_000 + ".e30.e30",  # nested JSON
    ],
)
def test_what_is_no_known_token_is_refused_and_not_repeated(path, credential):
    admitted(path)
    with pytest.raises(UnauthorisedError) as caught:
        Doorkeeper(path).admit(credential, Scope.INFER)
    assert 'error="invalid_token"' in caught.value.headers()["WWW-Authenticate"]
    said = credential.partition(" ")[2]
    assert not said.strip() or said not in str(caught.value)
    assert len(str(caught.value)) < 100


def test_the_digest_in_the_file_does_not_admit(path):
    admitted(path)
    digest = read_clients(path).clients[0].sha256
    with pytest.raises(UnauthorisedError):
        Doorkeeper(path).admit(f"Bearer {digest}", Scope.INFER)


@given(credential=st.text() | st.text(alphabet="abcABC012._-=").map("Bearer {}".format))
@example("Bearer eyJhbGciOiJub25lIn0.e30.")
@example("Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOltdfQ.")
def test_whatever_is_sent_is_refused_as_a_credential(tmp_path_factory, credential):
    path = tmp_path_factory.getbasetemp() / "refusing.json"
    if not path.exists():
        admitted(path)
    with pytest.raises(UnauthorisedError):
        Doorkeeper(path).admit(credential, Scope.INFER)


def test_a_token_is_refused_from_its_expiry_on(path):
    token, entry = new_token("pacs", [Scope.INFER], 1)
    now = datetime.now(UTC)
    assert timedelta(hours=23) < entry.expires - now <= timedelta(days=1)
    add_client(path, entry)
    keeper = Doorkeeper(path)
    assert keeper.admit(f"Bearer {token}", Scope.INFER) == "pacs"
    document = json.loads(path.read_text())
    document["clients"][0]["expires"] = (now - timedelta(seconds=1)).isoformat()
    path.write_text(json.dumps(document))
    with pytest.raises(UnauthorisedError, match="expired"):
        keeper.admit(f"Bearer {token}", Scope.INFER)


def test_a_token_can_be_renewed_and_revoked_while_the_server_runs(path):
    old = admitted(path)
    keeper = Doorkeeper(path)
    new = admitted(path)
    assert keeper.admit(f"Bearer {old}", Scope.INFER) == "pacs"
    assert keeper.admit(f"Bearer {new}", Scope.INFER) == "pacs"
    document = json.loads(path.read_text())
    del document["clients"][0]
    path.write_text(json.dumps(document))
    with pytest.raises(UnauthorisedError):
        keeper.admit(f"Bearer {old}", Scope.INFER)
    assert keeper.admit(f"Bearer {new}", Scope.INFER) == "pacs"


def test_a_broken_file_leaves_the_old_one_in_force_and_is_told_once(path, json_lines):
    token = admitted(path)
    keeper = Doorkeeper(path)
    sound = path.read_text()
    path.write_text(sound.replace("infer", "DOE^JANE"))
    for _ in range(3):
        assert keeper.admit(f"Bearer {token}", Scope.INFER) == "pacs"
    path.unlink()
    assert keeper.admit(f"Bearer {token}", Scope.INFER) == "pacs"
    path.write_text(sound)
    assert keeper.admit(f"Bearer {token}", Scope.INFER) == "pacs"
    told = json_lines()
    assert [line["event"] for line in told] == ["file_refused", "file_refused", "file_read_again"]
    assert told[0]["problem"].startswith(f"{path}: clients.0.scopes")
    assert "DOE" not in str(told)


def test_a_file_that_is_broken_at_the_start_is_an_error(path):
    path.write_text("{")
    with pytest.raises(ConfigError):
        Doorkeeper(path)


def test_a_secret_that_kubernetes_renews_by_its_link_is_read_again(tmp_path):
    tokens = []
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        tokens.append(admitted(tmp_path / version / "clients.json"))
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "clients.json").symlink_to("..data/clients.json")
    keeper = Doorkeeper(tmp_path / "clients.json")
    assert keeper.admit(f"Bearer {tokens[0]}", Scope.INFER) == "pacs"
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "..data")
    assert keeper.admit(f"Bearer {tokens[1]}", Scope.INFER) == "pacs"
    with pytest.raises(UnauthorisedError):
        keeper.admit(f"Bearer {tokens[0]}", Scope.INFER)


def test_the_command_shows_a_token_once_and_keeps_only_its_digest(path, repository):
    command = [sys.executable, "-m", "serving.guard.tokens", "new", "--client", "pacs"]
    command += ["--scope", "infer", "--scope", "read", "--days", "90", "--file", str(path)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    token = done.stdout.strip()
    assert token.startswith("bonexray_")
    assert len(token) > 50
    assert done.stderr == ""
    assert token not in path.read_text()
    for scope in Scope:
        assert Doorkeeper(path).admit(f"Bearer {token}", scope) == "pacs"


def test_the_command_prints_the_entry_where_no_file_is_named(path, capsys):
    main(["new", "--client", "pacs", "--scope", "read"])
    token, entry = capsys.readouterr().out.splitlines()
    path.write_text(f'{{"clients": [{entry}]}}')
    assert Doorkeeper(path).admit(f"Bearer {token}", Scope.READ) == "pacs"


@pytest.mark.parametrize(
    "flags",
    [
        ["--client", "no name", "--scope", "infer"],
        ["--client", "anonymous", "--scope", "infer"],
        ["--client", "pacs", "--scope", "write"],
        ["--client", "pacs"],
        ["--client", "pacs", "--scope", "infer", "--days", "0"],
        ["--client", "pacs", "--scope", "infer", "--days", "999999999999"],
    ],
)
def test_the_command_refuses_what_is_no_client(flags, path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["new", *flags, "--file", str(path)])
    assert caught.value.code in (1, 2)
    assert not path.exists()
    assert capsys.readouterr().out == ""


def test_the_command_does_not_touch_a_file_that_it_cannot_read(path, capsys):
    path.write_text("{")
    with pytest.raises(SystemExit):
        main(["new", "--client", "pacs", "--scope", "infer", "--file", str(path)])
    assert path.read_text() == "{"
    assert capsys.readouterr().out == ""


def test_two_who_append_at_once_lose_no_entry(path):
    def append(number):
        return admitted(path, name=f"client{number}")

    path.write_text("{}")
    path.chmod(0o600)
    with ThreadPoolExecutor(4) as pool:
        tokens = list(pool.map(append, range(20)))
    keeper = Doorkeeper(path)
    for number, token in enumerate(tokens):
        assert keeper.admit(f"Bearer {token}", Scope.INFER) == f"client{number}"
    assert path.stat().st_mode & 0o777 == 0o600
