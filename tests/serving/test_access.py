"""Who may ask what: every route and every call, with every kind of credential."""

import base64
import json
import ssl

import grpc
import httpx
import pytest

from serving.guard.clients import Scope
from serving.guard.tokens import add_client, new_token
from serving.oip.messages import SERVICE, pb
from tests.serving.guard.certificates import write_pair
from tests.serving.live import INFER, QUICK, STUDY, wait_until

OPEN = [
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/bonexray/ready"),
    ("GET", "/v2/models/bonexray/versions/3/ready"),
    ("GET", "/v1/models/bonexray"),
]
READ = [
    ("GET", "/v2"),
    ("GET", "/v2/"),
    ("GET", "/v2/models"),
    ("GET", "/v2/models/bonexray"),
    ("GET", "/v2/models/bonexray/versions/3"),
    ("GET", "/v1/models"),
]
ASK = [
    ("POST", INFER),
    ("POST", "/v2/models/bonexray/versions/3/infer"),
    ("POST", "/v1/models/bonexray:predict"),
]
V1 = {"instances": [{"b64": STUDY["inputs"][0]["data"][0]}]}
NEEDS = {(path, method): "read" for method, path in READ} | {(p, m): "infer" for m, p in ASK}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """A file of clients, and the token of each."""
    path, tokens = tmp_path_factory.mktemp("clients") / "clients.json", {}
    for name, scopes in (("pacs", [Scope.INFER]), ("monitor", [Scope.READ]), ("ris", [*Scope])):
        tokens[name], entry = new_token(name, scopes, days=1)
        add_client(path, entry)
    return {"path": path} | tokens


@pytest.fixture(scope="module")
def guarded(start_server, tokens):
    return start_server("--clients", tokens["path"])


def ask(server, method, path, token):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    body = {"json": V1 if "predict" in path else STUDY} if method == "POST" else {}
    return httpx.request(
        method, server.url + path, headers=headers, timeout=30, trust_env=False, **body
    )


@pytest.mark.parametrize(("method", "path"), OPEN + READ + ASK)
def test_a_route_answers_those_who_may_ask_it_and_no_others(guarded, tokens, method, path):
    needed = NEEDS.get((path, method))
    for token, scopes in (
        (None, set()),
        ("unknown-token-0123456789", set()),
        (tokens["pacs"], {"infer"}),
        (tokens["monitor"], {"read"}),
        (tokens["ris"], {"infer", "read"}),
    ):
        response = ask(guarded, method, path, token)
        if needed is None or needed in scopes:
            assert response.status_code == 200, response.text
        else:
            assert response.status_code == (403 if scopes else 401)
            assert list(response.json()) == ["error"]
            assert response.headers["WWW-Authenticate"].startswith("Bearer ")


def call(channel, method, request, token):
    stub = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=getattr(pb, f"{method}Response").FromString,
    )
    metadata = [("authorization", f"Bearer {token}")] if token else []
    try:
        stub(request, metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def infer_request():
    raw = base64.b64decode(STUDY["inputs"][0]["data"][0])
    return pb.ModelInferRequest(
        model_name="bonexray",
        inputs=[pb.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])],
        raw_input_contents=[len(raw).to_bytes(4, "little") + raw],
    )


def test_a_call_answers_those_who_may_make_it_and_no_others(guarded, tokens):
    calls = [
        ("ServerLive", pb.ServerLiveRequest(), None),
        ("ServerReady", pb.ServerReadyRequest(), None),
        ("ModelReady", pb.ModelReadyRequest(name="bonexray"), None),
        ("ServerMetadata", pb.ServerMetadataRequest(), "read"),
        ("ModelMetadata", pb.ModelMetadataRequest(name="bonexray"), "read"),
        ("ModelInfer", infer_request(), "infer"),
    ]
    with grpc.insecure_channel(guarded.grpc) as channel:
        for method, request, needed in calls:
            told = {
                name: call(channel, method, request, tokens.get(name))
                for name in ("nobody", "pacs", "monitor")
            }
            may = {"nobody": None, "pacs": "infer", "monitor": "read"}
            for name, scope in may.items():
                refused = "PERMISSION_DENIED" if scope else "UNAUTHENTICATED"
                assert told[name] == ("OK" if needed in (None, scope) else refused), method


def test_a_client_that_is_taken_off_the_list_is_refused_without_a_restart(guarded, tokens):
    token, entry = new_token("new", [Scope.INFER], days=1)
    assert ask(guarded, "POST", INFER, token).status_code == 401
    before = tokens["path"].read_text()
    add_client(tokens["path"], entry)
    wait_until(lambda: ask(guarded, "POST", INFER, token).status_code == 200)
    tokens["path"].write_text(before)
    wait_until(lambda: ask(guarded, "POST", INFER, token).status_code == 401)


def test_both_protocols_speak_tls_and_show_a_renewed_certificate(start_server, tmp_path):
    pair = tmp_path / "tls.crt", tmp_path / "tls.key"
    write_pair(*pair, "first")
    server = start_server("--certificate", pair[0], "--key", pair[1])
    assert server.url.startswith("https://")
    for name in ("first", "second"):
        write_pair(*pair, name)
        trusted = ssl.create_default_context(cafile=pair[0])
        answer = httpx.post(server.url + INFER, json=STUDY, verify=trusted, trust_env=False)
        assert answer.status_code == 200
        credentials = grpc.ssl_channel_credentials(pair[0].read_bytes())
        with grpc.secure_channel(server.grpc, credentials) as channel:
            assert call(channel, "ModelInfer", infer_request(), None) == "OK"
    with pytest.raises(httpx.TransportError):
        httpx.get(server.url.replace("https", "http"), trust_env=False)
    assert server.stop() == (0, "")


def test_a_client_that_asks_too_often_is_told_when_to_come_back(start_server, png):
    server = start_server(config=QUICK.model_copy(update={"requests_per_minute": 6}))
    answers = [server.infer(png(60)) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 6 + [429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 11
    assert server.get("/v2/health/ready").status_code == 200  # never counted
    assert server.stop()[0] == 0


def test_models_can_be_neither_loaded_nor_unloaded(guarded, tokens):
    for verb in ("load", "unload"):
        path = f"/v2/repository/models/bonexray/{verb}"
        assert ask(guarded, "POST", path, tokens["ris"]).status_code == 404
    with grpc.insecure_channel(guarded.grpc) as channel:
        stub = channel.unary_unary(f"/{SERVICE}/RepositoryModelUnload")
        with pytest.raises(grpc.RpcError) as refused:
            stub(b"", metadata=[("authorization", f"Bearer {tokens['ris']}")], timeout=20)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_no_token_reaches_the_log(guarded, tokens):
    ask(guarded, "POST", INFER, "SECRET-TOKEN-MARKER-0123456789")
    logged = guarded.stderr.read_text()
    assert "SECRET-TOKEN-MARKER" not in logged
    assert tokens["pacs"] not in logged
    refused = [json.loads(line) for line in logged.splitlines() if '"auth"' in line]
    assert refused
    assert {line["status"] for line in refused} <= {"401", "403", "UNAUTHENTICATED",
                                                    "PERMISSION_DENIED"}  # fmt: skip
