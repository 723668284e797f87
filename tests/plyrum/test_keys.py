"""Secrets of development are made once, whoever comes first; production demands its own."""

import stat
import subprocess
import sys
from pathlib import Path

import environ
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from plyrum import keys

PROCESSES = 8
MAKE_ALL = """
import sys
from pathlib import Path
import environ
from plyrum import keys
sys.stdin.readline()  # all begin together
folder = Path(sys.argv[1])
print(keys.development_secret(folder), *keys.token_keys(environ.Env(), folder, is_production=False))
print(keys.peppers(environ.Env(), folder, is_production=False))
"""


def environment(**variables: str) -> environ.Env:
    env = environ.Env()
    env.ENVIRON = variables
    return env


def pem(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_eight_processes_at_once_agree(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE_ALL, str(folder)],
            cwd=settings.BASE_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0] for process in started]

    assert len(set(said)) == 1
    assert [process.returncode for process in started] == [0] * PROCESSES
    assert sorted(path.name for path in folder.iterdir()) == [
        "api_key_peppers", "jwt_private_key.pem", "secret_key",
    ]  # fmt: skip


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    keys.development_secret(tmp_path)
    keys.token_keys(environment(), tmp_path, is_production=False)
    keys.peppers(environment(), tmp_path, is_production=False)

    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o600}


def test_secret_is_kept_and_long(tmp_path: Path) -> None:
    first = keys.development_secret(tmp_path)

    assert keys.development_secret(tmp_path) == first
    assert len(first) >= 50


def test_public_key_belongs_to_the_private_one(tmp_path: Path) -> None:
    private, public = keys.token_keys(environment(), tmp_path, is_production=False)

    message = b"signed"
    signing = serialization.load_pem_private_key(private.encode(), password=None)
    checking = serialization.load_pem_public_key(public.encode())
    assert isinstance(signing, ed25519.Ed25519PrivateKey)
    assert isinstance(checking, ed25519.Ed25519PublicKey)
    checking.verify(signing.sign(message), message)


def test_environment_wins_over_the_folder(tmp_path: Path) -> None:
    own = pem(ed25519.Ed25519PrivateKey.generate())

    private, public = keys.token_keys(environment(JWT_PRIVATE_KEY=own), tmp_path, is_production=False)

    assert private == own
    assert public.startswith("-----BEGIN PUBLIC KEY-----")
    assert list(tmp_path.iterdir()) == []


def test_line_ends_may_be_written_as_two_letters(tmp_path: Path) -> None:
    own = pem(ed25519.Ed25519PrivateKey.generate())
    env = environment(JWT_PRIVATE_KEY=own.replace("\n", "\\n"))

    assert keys.token_keys(env, tmp_path, is_production=True)[0] == own


def test_key_may_stand_in_a_file(tmp_path: Path) -> None:
    own = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    path = tmp_path / "key.pem"
    path.write_text(own)
    env = environment(JWT_PRIVATE_KEY_FILE=str(path), JWT_PUBLIC_KEY="given")

    assert keys.token_keys(env, tmp_path, is_production=True) == (own, "given")


def test_production_demands_a_key(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="JWT_PRIVATE_KEY_FILE"):
        keys.token_keys(environment(), tmp_path, is_production=True)

    assert list(tmp_path.iterdir()) == []


def test_peppers_are_read_by_version(tmp_path: Path) -> None:
    old, new = "a" * 32, "b" * 40
    path = tmp_path / "peppers"
    path.write_text(f"1:{old}, 2:{new}\n")

    found = keys.peppers(environment(PLYRUM_API_KEY_PEPPERS_FILE=str(path)), tmp_path, is_production=True)

    assert found == {1: old.encode(), 2: new.encode()}


@pytest.mark.parametrize(
    "wrong",
    ["x" * 40, f"0:{'x' * 40}", "1:short", f"1:{'x' * 40},1:{'y' * 40}", f"1:{'x' * 40},", "1:" + " " * 40],
)
def test_peppers_that_mean_nothing_are_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="32 characters or more"):
        keys.peppers(environment(PLYRUM_API_KEY_PEPPERS=wrong), tmp_path, is_production=False)


def test_production_demands_peppers(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="PLYRUM_API_KEY_PEPPERS_FILE"):
        keys.peppers(environment(), tmp_path, is_production=True)

    assert list(tmp_path.iterdir()) == []
