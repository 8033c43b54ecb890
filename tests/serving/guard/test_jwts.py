import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from bonexray.errors import ConfigError
from serving.guard.clients import Scope
from serving.guard.jwts import read_keys
from serving.guard.tokens import Doorkeeper
from serving.oip.errors import ForbiddenError, UnauthorisedError

ISSUER = {
    "name": "hospital",
    "issuer": "https://login.example.org/realms/hospital",
    "audience": "bonexray",
    "keys": "jwks.json",
    "algorithms": ["RS256", "ES256", "EdDSA"],
    "scope_claim": "scope",
    "scopes": {"bonexray.infer": "infer", "bonexray.read": "read"},
}
RSA, OTHER_RSA = (rsa.generate_private_key(65537, 2048) for _ in range(2))
EC, ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
REMOVED = object()


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwks():
    made = (
        ("rsa", RSAAlgorithm, RSA, {"alg": "RS256", "use": "sig"}),
        ("ec", ECAlgorithm, EC, {}),
        ("ed", OKPAlgorithm, ED, {}),
        ("for-encryption", RSAAlgorithm, OTHER_RSA, {"use": "enc"}),
    )
    return [
        {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}
        for kid, algorithm, key, more in made
    ]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": jwks()}))
    path = tmp_path / "clients.json"
    path.write_text(json.dumps({"issuers": [ISSUER]}))
    return path


def claims(**changed):
    now = int(time.time())
    all_claims = {
        "iss": ISSUER["issuer"],
        "aud": "bonexray",
        "sub": "service-account-pacs",
        "iat": now,
        "exp": now + 300,
        "scope": "openid bonexray.infer",
    } | changed
    return {key: value for key, value in all_claims.items() if value is not REMOVED}


def signed(key=RSA, algorithm="RS256", kid="rsa", **changed):
    return jwt.encode(claims(**changed), key, algorithm, headers={"kid": kid} if kid else None)


def encoded(document):
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def refused(path, token):
    with pytest.raises(UnauthorisedError) as caught:
        Doorkeeper(path).admit(f"Bearer {token}", Scope.INFER)
    message = str(caught.value)
    assert not any(part and part in message for part in token.split("."))
    assert "service-account" not in message
    return message


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")]
)
def test_a_token_of_the_issuer_admits_its_subject(path, key, algorithm, kid):
    token = signed(key, algorithm, kid)
    keeper = Doorkeeper(path)
    assert keeper.admit(f"Bearer {token}", Scope.INFER) == "hospital/service-account-pacs"
    with pytest.raises(ForbiddenError):
        keeper.admit(f"Bearer {token}", Scope.READ)


@pytest.mark.parametrize(
    "scope", ["bonexray.read", ["bonexray.read", "openid"], "bonexray.infer bonexray.read"]
)
def test_scopes_are_words_or_a_list(path, scope):
    token = signed(scope=scope)
    assert Doorkeeper(path).admit(f"Bearer {token}", Scope.READ) == "hospital/service-account-pacs"


@pytest.mark.parametrize(
    "scope", [REMOVED, "", "infer", "xbonexray.infer", [["bonexray.infer"]], 7]
)
def test_a_scope_that_is_none_of_the_issuers_allows_nothing(path, scope):
    with pytest.raises(ForbiddenError):
        Doorkeeper(path).admit(f"Bearer {signed(scope=scope)}", Scope.INFER)


def test_one_of_several_audiences_is_enough(path):
    token = signed(aud=["account", "bonexray"])
    assert Doorkeeper(path).admit(f"Bearer {token}", Scope.INFER)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"exp": REMOVED}, "lacks"),
        ({"aud": REMOVED}, "lacks"),
        ({"sub": REMOVED}, "lacks"),
        ({"iss": REMOVED}, "not known"),
        ({"exp": int(time.time()) - 60}, "expired"),
        ({"exp": "soon"}, "not known"),
        ({"exp": float("inf")}, "not known"),
        ({"exp": None}, ""),
        ({"nbf": int(time.time()) + 3600}, "not valid yet"),
        ({"iat": int(time.time()) + 3600}, "not valid yet"),
        ({"aud": "another"}, "audience"),
        ({"aud": ["another", "bonexray2"]}, "audience"),
        ({"iss": "https://login.example.com"}, "not known"),
        ({"sub": "DOE^JANE"}, "subject"),
        ({"sub": "a" * 500}, "subject"),
        ({"sub": ""}, "subject"),
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(path, changed, why):
    assert why in refused(path, signed(**changed))


def test_a_minutes_old_expiry_is_refused_and_clocks_may_differ_by_seconds(path):
    token = signed(exp=int(time.time()) - 3, nbf=int(time.time()) + 3)
    assert Doorkeeper(path).admit(f"Bearer {token}", Scope.INFER)


@pytest.mark.parametrize("kid", [None, "unknown", "for-encryption", "", "../rsa"])
def test_a_key_that_is_not_known_verifies_nothing(path, kid):
    refused(path, signed(OTHER_RSA, kid=kid))


@pytest.mark.parametrize("kid", [None, "ec", "unknown"])
def test_a_known_key_under_another_name_verifies_nothing(path, kid):
    refused(path, signed(kid=kid))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", ""])
@pytest.mark.parametrize("signature", ["", "c2lnbmF0dXJl"])
def test_a_token_without_a_signature_is_refused(path, alg, signature):
    head = encoded({"alg": alg, "typ": "JWT", "kid": "rsa"})
    refused(path, f"{head}.{encoded(claims())}.{signature}")


@pytest.mark.parametrize("secret", [public_pem(RSA), b"", b"secret" * 8])
def test_a_token_signed_with_the_public_key_as_a_shared_secret_is_refused(path, secret):
    head = encoded({"alg": "HS256", "typ": "JWT", "kid": "rsa"})
    signing = f"{head}.{encoded(claims())}"
    mac = hmac.new(secret, signing.encode(), hashlib.sha256).digest()
    refused(path, f"{signing}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}")


def test_an_algorithm_beside_the_list_or_the_keys_own_is_refused(path):
    refused(path, signed(RSA, "RS512"))
    refused(path, signed(RSA, "PS256"))


def test_a_key_that_the_token_brings_along_verifies_nothing(path):
    own = {**RSAAlgorithm.to_jwk(OTHER_RSA.public_key(), as_dict=True), "kid": "rsa"}
    headers = {"kid": "rsa", "jwk": own, "jku": "http://127.0.0.1:9/jwks.json"}
    refused(path, jwt.encode(claims(), OTHER_RSA, "RS256", headers=headers))


def test_a_changed_payload_or_signature_is_refused(path):
    head, _, signature = signed().split(".")
    refused(path, f"{head}.{encoded(claims(sub='admin'))}.{signature}")
    head, payload, signature = signed().split(".")
    refused(path, f"{head}.{payload}.{'A' * len(signature)}")
    refused(path, f"{head}.{payload}.")


def test_a_token_beyond_8_kib_is_refused_before_it_is_read(path):
    refused(path, signed(padding="x" * 8192))
    assert Doorkeeper(path).admit(f"Bearer {signed(padding='x' * 4096)}", Scope.INFER)


def test_the_name_of_a_client_of_the_file_cannot_be_taken_by_a_subject(path):
    client = Doorkeeper(path).admit(f"Bearer {signed(sub='pacs')}", Scope.INFER)
    assert client == "hospital/pacs"


def test_one_key_as_pem_needs_no_key_id(path):
    (path.parent / "jwks.json").write_bytes(public_pem(RSA))
    keeper = Doorkeeper(path)
    assert keeper.admit(f"Bearer {signed(kid=None)}", Scope.INFER)
    assert keeper.admit(f"Bearer {signed(kid='any')}", Scope.INFER)
    refused(path, signed(OTHER_RSA, kid=None))
    refused(path, signed(EC, "ES256", kid=None))


def test_new_keys_of_the_issuer_are_read_while_the_server_runs(path):
    keeper = Doorkeeper(path)
    new = {**RSAAlgorithm.to_jwk(OTHER_RSA.public_key(), as_dict=True), "kid": "new"}
    token = signed(OTHER_RSA, kid="new")
    with pytest.raises(UnauthorisedError):
        keeper.admit(f"Bearer {token}", Scope.INFER)
    (path.parent / "jwks.json").write_text(json.dumps({"keys": [new]}))
    assert keeper.admit(f"Bearer {token}", Scope.INFER)
    with pytest.raises(UnauthorisedError):
        keeper.admit(f"Bearer {signed()}", Scope.INFER)


SMALL = rsa.generate_private_key(65537, 1024)
PRIVATE_PEM = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"keys": 7}',
        b'{"keys": ' + b"[" * 50_000,
        b'{"keys": []}',
        b'{"keys": ["DOE"]}',
        json.dumps({"keys": [entry for entry in jwks() if entry.get("use") == "enc"]}).encode(),
        json.dumps({"keys": [{"kty": "oct", "kid": "a", "k": "DOE", "alg": "HS256"}]}).encode(),
        json.dumps({"keys": [{**jwks()[0], "d": "DOE"}]}).encode(),
        json.dumps({"keys": [{**jwks()[0], "kid": 7}]}).encode(),
        json.dumps({"keys": [{**jwks()[0], "n": "DOE!"}]}).encode(),
        json.dumps({"keys": [jwks()[0], jwks()[0]]}).encode(),
        public_pem(SMALL),
        PRIVATE_PEM,
        b"-----BEGIN PUBLIC KEY-----\nDOE\n-----END PUBLIC KEY-----\n",
    ],
)
def test_a_file_without_public_keys_for_signatures_is_refused_and_not_repeated(tmp_path, content):
    path = tmp_path / "jwks.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_keys(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "DOE" not in str(caught.value)


def test_missing_keys_stop_the_start(path):
    (path.parent / "jwks.json").unlink()
    with pytest.raises(ConfigError, match=r"jwks\.json: cannot be read"):
        Doorkeeper(path)
