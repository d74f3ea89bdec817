"""What is read late is the same as what would have been read: root certificates, who is refused by them, MIME types."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import tempfile

import pytest

from nexus.runtime.lazy_loading import Unread, lazy_loading


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server's context whose certificate is the only root of the system."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make a certificate with")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem"), "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


def unread():
    with lazy_loading():
        return ssl.create_default_context()


def greet(client, server, name="localhost"):
    """Both sides of a handshake, in memory."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while sides:
        for side in list(sides):
            try:
                side.do_handshake()
                sides.remove(side)
            except ssl.SSLWantReadError:
                pass


def test_the_roots_are_read_for_the_first_connection(server):
    context = unread()
    assert type(context) is Unread
    greet(context, server)
    assert type(context) is ssl.SSLContext
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats() == {"x509": 1, "crl": 0, "x509_ca": 1}
    greet(context, server)


def test_another_name_and_an_unknown_root_are_refused(server, monkeypatch, tmp_path):
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        greet(unread(), server, "elsewhere")
    (tmp_path / "none.pem").write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
        greet(unread(), server)


def test_who_asks_for_the_roots_is_told_all_of_them(server):
    assert unread().get_ca_certs() == ssl.create_default_context().get_ca_certs() != []
    assert unread().cert_store_stats() == ssl.create_default_context().cert_store_stats()


def test_contexts_of_others_read_them_at_once(server):
    assert type(unread()) is Unread
    context = ssl.create_default_context()
    assert type(context) is ssl.SSLContext
    assert context.cert_store_stats()["x509"] == 1


def test_a_socket_is_wrapped_by_a_plain_context(server):
    ours, theirs = socket.socketpair()
    context = unread()
    with ours, theirs, context.wrap_socket(ours, server_hostname="localhost", do_handshake_on_connect=False) as wrapped:
        assert type(wrapped.context) is type(context) is ssl.SSLContext


def test_serve_is_imported_without_reading_them():
    """aiohttp makes contexts as it is imported; of all that are there, none has read the roots."""
    script = (
        "import gc, ssl, nexus.runtime.lazy_loading as lazy\n"
        "with lazy.lazy_loading(): import nexus.cli.running\n"
        "print({type(x).__name__ for x in gc.get_objects() if isinstance(x, ssl.SSLContext)} - {'Unread'})"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_types_of_files_are_those_of_the_system():
    script = (
        "import mimetypes, nexus.runtime.lazy_loading as lazy\n"
        "with lazy.lazy_loading(): import nexus.cli.running\n"
        "mimetypes.knownfiles = ['{}']\n"
        "print(mimetypes.guess_type('a.late')[0], mimetypes.MimeTypes().guess_type('a.zip')[0])"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".types") as file:
        file.write("text/late late\n")
        file.flush()
        done = subprocess.run([sys.executable, "-c", script.format(file.name)], capture_output=True, text=True, check=True)
    assert done.stdout == "text/late application/zip\n"
