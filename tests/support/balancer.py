"""nginx and HAProxy from Debian in front of gateways, as their users would set them up."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

NGINX = """\
daemon off;
pid {folder}/pid;
error_log {folder}/log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream gateways {{
    {servers}
    keepalive 32;
    keepalive_timeout 1s;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://gateways;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""
NGINX_SERVER = "server 127.0.0.1:{port} max_fails=0;"

HAPROXY = """\
global
  maxconn 500
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  option redispatch
  option forwardfor
frontend programs
  bind 127.0.0.1:{port}
  default_backend gateways
backend gateways
  option httpchk GET /readyz
  {servers}
"""
HAPROXY_SERVER = "server g{port} 127.0.0.1:{port} check inter 200ms fall 1 rise 1"

HAPROXY_TCP = """\
global
  maxconn 100
defaults
  mode tcp
  timeout connect 2s
  timeout client 30s
  timeout server 30s
{doors}
"""
HAPROXY_DOOR = """\
listen door{port}
  bind 127.0.0.1:{port}
  server gateway 127.0.0.1:{gateway} {option}
"""

NAMES = ("nginx", "haproxy")


def found(name: str) -> str | None:
    """The program's path, if it is installed."""
    return shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


@contextmanager
def balancing(name: str, port: int, gateways: Sequence[int], folder: Path) -> Iterator[None]:
    """It listens on `port` of 127.0.0.1 and spreads requests over the ports of the gateways, for the block's length."""
    program = found(name)
    assert program is not None
    is_nginx = name == "nginx"
    one, whole = (NGINX_SERVER, NGINX) if is_nginx else (HAPROXY_SERVER, HAPROXY)
    servers = "\n    ".join(one.format(port=each) for each in gateways)
    file = folder / f"{name}.conf"
    file.write_text(whole.format(folder=folder, port=port, servers=servers))
    own = ["-p", str(folder), "-e", str(folder / "log"), "-c", str(file)] if is_nginx else ["-f", str(file), "-db"]
    with _running(name, [program, *own], [port]):
        yield


@contextmanager
def proxying(option: str, doors: Mapping[int, int], folder: Path) -> Iterator[None]:
    """HAProxy passes TCP connections on, from its ports to the gateway's, with an `option` such as send-proxy-v2."""
    program = found("haproxy")
    assert program is not None
    listening = (HAPROXY_DOOR.format(port=port, gateway=gateway, option=option) for port, gateway in doors.items())
    file = folder / f"{option}.conf"
    file.write_text(HAPROXY_TCP.format(doors="".join(listening)))
    with _running("haproxy", [program, "-f", str(file), "-db"], doors):
        yield


@contextmanager
def _running(name: str, command: Sequence[str], ports: Iterable[int]) -> Iterator[None]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 10
        while process.poll() is None and not all(map(_listens, ports)):
            assert time.monotonic() < deadline, f"{name} did not start"
            time.sleep(0.02)
        assert process.poll() is None, f"{name}: {process.stderr.read().decode() if process.stderr else ''}"
        yield
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
