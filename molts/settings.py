"""The one settings file: development, tests and production differ in environment only (docs/environment.md)."""

from __future__ import annotations

import os
import re
import secrets as random_secrets
from pathlib import Path

import dj_database_url
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from molts.admin.frame import UNFOLD as UNFOLD
from molts.env import Env, bad, make_folder, read_env_file
from molts.machine import usable_cores

BASE_DIR = Path(__file__).resolve().parent.parent

# .env is read below the real environment, so that a variable given on the command line wins.
_dotenv = read_env_file(BASE_DIR / ".env")
_environ = {**_dotenv, **os.environ}
MOLTS_DATA_DIR = Path(_environ.get("MOLTS_DATA_DIR") or BASE_DIR / "var").expanduser().resolve()
MOLTS_SECRETS_DIR = MOLTS_DATA_DIR / "secrets"
MOLTS_RUN_ENV = MOLTS_DATA_DIR / "run" / "up.env"
env = Env(_environ, read_env_file(MOLTS_RUN_ENV))
if MOLTS_DATA_DIR.exists() and not MOLTS_DATA_DIR.is_dir():
    raise bad("MOLTS_DATA_DIR", str(MOLTS_DATA_DIR), "a folder")


# -- Secrets ---------------------------------------------------------------------------------------------------------
SECRET_KEY = env.secret(
    "SECRET_KEY", folder=MOLTS_SECRETS_DIR, make=lambda: random_secrets.token_urlsafe(50), at_least=32
)
MOLTS_FIELD_KEYS = [
    key.strip()
    for key in env.secret(
        "MOLTS_FIELD_KEYS", folder=MOLTS_SECRETS_DIR, make=lambda: Fernet.generate_key().decode()
    ).split(",")
    if key.strip()
]
for _key in MOLTS_FIELD_KEYS:
    try:
        Fernet(_key)
    except ValueError as error:
        raise bad(
            "MOLTS_FIELD_KEYS", "(hidden)", "Fernet keys (32 bytes, URL-safe base64), separated by commas"
        ) from error


# -- Where it runs ---------------------------------------------------------------------------------------------------
DEBUG = env.flag("DEBUG", False)
MOLTS_HOST = env.host("MOLTS_HOST", "127.0.0.1")
MOLTS_PORT = env.number("MOLTS_PORT", 8000, minimum=1, maximum=65535)
MOLTS_PUBLIC_URL = env.url("MOLTS_PUBLIC_URL", f"http://127.0.0.1:{MOLTS_PORT}", schemes=("http", "https"))
MOLTS_INSTANCE = env.text("MOLTS_INSTANCE", "molts")
if not re.fullmatch(r"[A-Za-z0-9-]{1,32}", MOLTS_INSTANCE):
    raise bad("MOLTS_INSTANCE", MOLTS_INSTANCE, "at most 32 letters, digits and dashes")


def _origin(url: str) -> str:
    """Scheme and host of a URL, without its path."""
    return "/".join(url.split("/", 3)[:3])


_public = MOLTS_PUBLIC_URL.split("//", 1)[1].split("/", 1)[0]
_public_host = _public.rsplit(":", 1)[0] if not _public.endswith("]") else _public
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS") or ["127.0.0.1", "localhost", "[::1]", _public_host]
CSRF_TRUSTED_ORIGINS = env.origins("CSRF_TRUSTED_ORIGINS") or [_origin(MOLTS_PUBLIC_URL)]
MOLTS_WS_ORIGINS = CSRF_TRUSTED_ORIGINS + [f"http://{host}:{MOLTS_PORT}" for host in ("127.0.0.1", "localhost")]
_https = MOLTS_PUBLIC_URL.startswith("https://")
ROOT_URLCONF = "molts.urls"
ASGI_APPLICATION = "molts.asgi.application"

# Open at once, of one address; 0: as many as come. See molts/front_door.py.
MOLTS_CONNECTIONS_PER_ADDRESS = env.number("MOLTS_CONNECTIONS_PER_ADDRESS", 128, maximum=100_000)
MOLTS_HEALTH_TOKEN = env.text("MOLTS_HEALTH_TOKEN")  # lets other machines than this one read /readyz and /metrics

# -- Media server ----------------------------------------------------------------------------------------------------
LIVEKIT_URL = env.url("LIVEKIT_URL", "ws://127.0.0.1:7880", schemes=("ws", "wss", "http", "https"))
LIVEKIT_PUBLIC_URL = env.url("LIVEKIT_PUBLIC_URL", LIVEKIT_URL, schemes=("ws", "wss"))
LIVEKIT_API_KEY = env.secret(
    "LIVEKIT_API_KEY", folder=MOLTS_SECRETS_DIR, make=lambda: f"API{random_secrets.token_hex(8)}"
)
LIVEKIT_API_SECRET = env.secret(
    "LIVEKIT_API_SECRET", folder=MOLTS_SECRETS_DIR, make=lambda: random_secrets.token_urlsafe(36), at_least=32
)
# Where media flows; 0 when not known (another's server) or not open (TCP, where only this machine may connect).
MOLTS_MEDIA_UDP_PORT = env.number("MOLTS_MEDIA_UDP_PORT", 0, maximum=65535)
MOLTS_MEDIA_TCP_PORT = env.number("MOLTS_MEDIA_TCP_PORT", 0, maximum=65535)
# The address that browsers are told for media, where the media server's own guess is wrong (behind NAT).
MOLTS_NODE_IP = env.address("MOLTS_NODE_IP")
# Whom browsers ask how the outside sees them. Nobody unless the operator says so: it tells a third party who talks.
MOLTS_STUN_SERVERS = env.servers("MOLTS_STUN_SERVERS")
MOLTS_AGENT_NAME = f"{MOLTS_INSTANCE}-agent"
MOLTS_AGENT_SLOTS = env.number("MOLTS_AGENT_SLOTS", max(4, 6 * usable_cores()), minimum=1, maximum=10_000)
MOLTS_AGENT_DRAIN_SECONDS = env.number("MOLTS_AGENT_DRAIN_SECONDS", 600, maximum=86_400)
MOLTS_AGENT_HEALTH_PORT = env.number("MOLTS_AGENT_HEALTH_PORT", 0, maximum=65535)  # 0: any free port, on loopback
MOLTS_AVATAR_NAME = f"{MOLTS_INSTANCE}-avatar"
MOLTS_AVATAR_SLOTS = env.number("MOLTS_AVATAR_SLOTS", 0, maximum=10_000)  # 0: measured when the worker starts
MOLTS_AVATAR_DRAIN_SECONDS = env.number("MOLTS_AVATAR_DRAIN_SECONDS", 600, maximum=86_400)
MOLTS_AVATAR_HEALTH_PORT = env.number("MOLTS_AVATAR_HEALTH_PORT", 0, maximum=65535)
MOLTS_AVATAR_WIDTH = env.even("MOLTS_AVATAR_WIDTH", env.even("AVATAR_WIDTH", 512, maximum=4096), maximum=4096)
MOLTS_AVATAR_HEIGHT = env.even("MOLTS_AVATAR_HEIGHT", env.even("AVATAR_HEIGHT", 512, maximum=4096), maximum=4096)
MOLTS_AVATAR_FPS = env.number(
    "MOLTS_AVATAR_FPS", env.number("AVATAR_FPS", 25, minimum=5, maximum=60), minimum=5, maximum=60
)

# -- Speech ----------------------------------------------------------------------------------------------------------
MOLTS_WHISPER_MODEL = env.text("MOLTS_WHISPER_MODEL") or env.text("WHISPER_MODEL")
MOLTS_WHISPER_DEVICE = env.choice(
    "MOLTS_WHISPER_DEVICE", env.text("WHISPER_DEVICE", "auto"), choices=("auto", "cpu", "cuda")
)
MOLTS_WHISPER_COMPUTE_TYPE = env.text("MOLTS_WHISPER_COMPUTE_TYPE", env.text("WHISPER_COMPUTE_TYPE", "default"))
# Where conversations find the speech server; empty: every conversation loads the model for itself.
MOLTS_SPEECH_URL = env.url("MOLTS_SPEECH_URL", "", schemes=("unix", "ws", "wss"))
MOLTS_SPEECH_SECRET = env.text("MOLTS_SPEECH_SECRET")
MOLTS_SPEECH_LISTEN = env.words("MOLTS_SPEECH_LISTEN", "127.0.0.1:8010")  # where `run_speech` listens
MOLTS_SPEECH_THREADS = env.number("MOLTS_SPEECH_THREADS", max(1, usable_cores() // 2), minimum=1, maximum=64)
MOLTS_SPEECH_PARTIAL_MS = env.number("MOLTS_SPEECH_PARTIAL_MS", 300, minimum=100, maximum=5000)
# How many seconds the encoder looks at, at least: fewer cost less, thirty ("full") lose nothing; "auto": by the device.
MOLTS_SPEECH_PARTIAL_WINDOW = env.window("MOLTS_SPEECH_PARTIAL_WINDOW")
MOLTS_SPEECH_FINAL_WINDOW = env.window("MOLTS_SPEECH_FINAL_WINDOW")
MOLTS_ACCEPT_VOICE_TERMS = env.flag("MOLTS_ACCEPT_VOICE_TERMS", False)
MOLTS_OFFLINE = env.flag("MOLTS_OFFLINE", False)  # never try to fetch models
# Recordings that anybody may send to the speech server.
MOLTS_SPEECH_MAX_UPLOAD_MB = env.number("MOLTS_SPEECH_MAX_UPLOAD_MB", 512, minimum=1, maximum=100_000)
MOLTS_SPEECH_MAX_MINUTES = env.number("MOLTS_SPEECH_MAX_MINUTES", 120, minimum=1, maximum=10_000)
MOLTS_SPEECH_UPLOADS_AT_ONCE = env.number("MOLTS_SPEECH_UPLOADS_AT_ONCE", 8, minimum=1, maximum=1000)
# Models to change between with the load, smallest first; empty: never. Only those on this machine are used.
MOLTS_SPEECH_LADDER = env.words("MOLTS_SPEECH_LADDER", "tiny,base,small,medium,large-v3-turbo")
MOLTS_SPEECH_LOAD_HIGH = env.number("MOLTS_SPEECH_LOAD_HIGH", 80, minimum=10, maximum=100)  # per cent
MOLTS_SPEECH_LOAD_LOW = env.number("MOLTS_SPEECH_LOAD_LOW", 50, minimum=0, maximum=99)
MOLTS_SPEECH_LOAD_SECONDS = env.number("MOLTS_SPEECH_LOAD_SECONDS", 20, minimum=1, maximum=3600)
if MOLTS_SPEECH_LOAD_LOW >= MOLTS_SPEECH_LOAD_HIGH:
    raise bad("MOLTS_SPEECH_LOAD_LOW", str(MOLTS_SPEECH_LOAD_LOW), "less than MOLTS_SPEECH_LOAD_HIGH")

# -- Faces -----------------------------------------------------------------------------------------------------------
# Engine hosts that somebody else starts: synctalk=unix:/path/to/socket,ditto=gpu-box:7411
MOLTS_ENGINE_ADDRESSES = env.addresses("MOLTS_ENGINE_ADDRESSES")
MOLTS_ENGINE_SECRET = env.text("MOLTS_ENGINE_SECRET")
MOLTS_WAV2LIP_MODEL = env.text("MOLTS_WAV2LIP_MODEL")
MOLTS_WAV2LIP_THREADS = env.number("MOLTS_WAV2LIP_THREADS", 0, maximum=256)  # 0: as ONNX Runtime likes

# Private addresses that configurable URLs (provider base URLs, webhooks) may reach. Set by the operator only.
MOLTS_ALLOWED_NETWORKS = env.networks("MOLTS_ALLOWED_NETWORKS")

# -- Data ------------------------------------------------------------------------------------------------------------
_database_url = env.url(
    "DATABASE_URL", f"sqlite:///{MOLTS_DATA_DIR / 'molts.sqlite3'}", schemes=("sqlite", "postgres", "postgresql")
)
try:
    _database = dj_database_url.parse(_database_url)
except ValueError as error:
    raise ImproperlyConfigured(f"DATABASE_URL is not valid: {error}.") from error
if _database["ENGINE"].endswith("sqlite3"):
    # IMMEDIATE takes the write lock at BEGIN: without it a read that turns into a write fails at once with
    # "database is locked", whatever the timeout.
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA journal_size_limit=67108864;",
    }
    make_folder(Path(_database["NAME"]).parent, fix="choose another place with MOLTS_DATA_DIR or DATABASE_URL")
else:
    _database.setdefault("OPTIONS", {}).setdefault("connect_timeout", 5)
DATABASES = {"default": _database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.url("REDIS_URL", "redis://127.0.0.1:6379/0", schemes=("redis", "rediss", "unix"))
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": f"{MOLTS_INSTANCE}.channels"},
    }
}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": f"{MOLTS_INSTANCE}.cache",
    }
}
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_TIME_LIMIT = 3600
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": f"{MOLTS_INSTANCE}.celery."}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE = {
    # Expires before the next tick, so a stopped worker does not come back to a pile of them.
    "reconcile": {"task": "sessions.tasks.reconcile", "schedule": 5.0, "options": {"expires": 4.0}},
    "videos": {"task": "avatars.videos.tasks.sweep", "schedule": 10.0, "options": {"expires": 9.0}},
    "webhooks": {"task": "projects.webhooks.tasks.send_due", "schedule": 5.0, "options": {"expires": 4.0}},
    "old webhooks": {"task": "projects.webhooks.tasks.clear_old", "schedule": 60.0, "options": {"expires": 50.0}},
}

# -- Apps ------------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "molts",
    "projects",
    "projects.usage",
    "projects.webhooks",
    "avatars",
    "avatars.videos",
    "sessions",
    "agent_runtime",
    "channels",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "drf_standardized_errors",
    "unfold.apps.BasicAppConfig",  # before the admin: its templates come first
    "unfold.contrib.filters",
    "unfold.contrib.inlines",
    "projects.apps.ScopedAdminConfig",  # django.contrib.admin, ending at the projects of whoever is signed in
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "molts.middleware.ContentSecurityPolicy",
    "molts.middleware.FrameCookies",
    "molts.middleware.OnlyUtf8",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",  # the visitor's choice (a cookie), else what the browser asks for
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
# Pages for visitors exist in these; of the admin, what Django and its theme translate themselves.
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch"), ("ar", "العربية")]
LOCALE_PATHS = [BASE_DIR / "locale"]
LANGUAGE_COOKIE_NAME = f"{MOLTS_INSTANCE}_language"
LANGUAGE_COOKIE_AGE = 31_536_000
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_SECURE = _https
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = ["molts.formats"]
USE_TZ = True

# -- Files -----------------------------------------------------------------------------------------------------------
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = env.text("STATIC_ROOT") or None  # only for `collectstatic`, when another server is to serve the files
MEDIA_URL = "media/"
MEDIA_ROOT = MOLTS_DATA_DIR / "media"
MOLTS_DOCS_DIR = BASE_DIR / "var" / "docs"  # made by `make setup`, whatever the data folder
# Served straight from the source folders: one command runs everything, and nothing can be stale.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_621_440
FILE_UPLOAD_MAX_MEMORY_SIZE = 262_144  # a body that is still arriving, before the rest of it goes to disk
DATA_UPLOAD_MAX_NUMBER_FIELDS = 10_000  # an agent's form has five for each of its answers

# -- Web security ----------------------------------------------------------------------------------------------------
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_NAME = f"{MOLTS_INSTANCE}_sessionid"
CSRF_COOKIE_NAME = "csrftoken"
CSRF_FAILURE_VIEW = "molts.views.csrf_failure"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.flag("MOLTS_BEHIND_PROXY", False) else None
SECURE_HSTS_SECONDS = 31_536_000 if _https else 0
X_FRAME_OPTIONS = "DENY"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

# -- REST ------------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "projects.authentication.ProjectKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["projects.access.IsProjectActor"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["molts.parsers.JSONBody"],
    "DEFAULT_PAGINATION_CLASS": "molts.api.NumberedPages",
    "PAGE_SIZE": 50,
    "DEFAULT_SCHEMA_CLASS": "molts.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": ["projects.throttling.ActorRateThrottle"],
    "URL_FORMAT_OVERRIDE": None,  # `?format=` of a transcript is ours
    "EXCEPTION_HANDLER": "molts.api.exception_handler",
    "DEFAULT_THROTTLE_RATES": {
        "api": env.rate("MOLTS_API_RATE", "600/min"),
        "visitor_start": env.rate("MOLTS_START_RATE", "30/min"),
        "visitor_check": env.rate("MOLTS_CHECK_RATE", "20/min"),
    },
    "NUM_PROXIES": env.number("MOLTS_NUM_PROXIES", 0, maximum=10),
}
SPECTACULAR_SETTINGS = {
    "TITLE": "molts",
    "DESCRIPTION": "Start conversations with your agents, follow and steer them, and read their transcripts.\n\n"
    "Programs send `Authorization: Bearer <project key>`. Browsers may use their login instead; then each POST needs "
    "the header `X-CSRFToken`.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "SessionStateEnum": "sessions.choices.SessionState.choices",
        "AgentStateEnum": "sessions.choices.AgentStateName.choices",
        "EndReasonEnum": "sessions.choices.EndReason.choices",
        "SessionSourceEnum": "sessions.choices.SessionSource.choices",
        "RoleEnum": "sessions.choices.Role.choices",
        "VideoStageEnum": "avatars.videos.models.STAGES",
        "VideoStatusEnum": "avatars.videos.serializers.STATUS_CHOICES",
        "WebhookEndpointKindEnum": "projects.webhooks.choices.EndpointKind.choices",
        "WebhookEventTypeEnum": "projects.webhooks.choices.EventType.choices",
    },
}

# -- Logs ------------------------------------------------------------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "filters": {"short": {"()": "molts.refusals.ShortRefusals"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["short"]}},
    "root": {
        "handlers": ["console"],
        "level": env.choice("LOG_LEVEL", "INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
    },
    "loggers": {
        "httpx": {"level": "WARNING"},
        "httpx2": {"level": "WARNING"},
        "django.security.DisallowedHost": {"level": "ERROR"},
    },
}
