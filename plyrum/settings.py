"""Every setting of Plyrum, read once from the environment, each with its default, unit and reason.

`docs/reference/settings.md` lists the same names; a test compares the two. Development needs no variable
at all; production (`PLYRUM_ENV=production`) refuses to start on what `plyrum/checks.py` names.
"""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

from plyrum import back_office_menu, embedded, keys, provider_environment, schedule

env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent

# --- Where and how it runs --------------------------------------------------------------------------------
PLYRUM_ENV = env.str("PLYRUM_ENV", default="development")
if PLYRUM_ENV not in ("development", "production"):
    raise ImproperlyConfigured("PLYRUM_ENV is either development or production.")
IS_PRODUCTION = PLYRUM_ENV == "production"
DEBUG = env.bool("PLYRUM_DEBUG", default=not IS_PRODUCTION)
PORT = env.int("PORT", default=8000)
PLYRUM_DATA_DIR = Path(env.str("PLYRUM_DATA_DIR", default=str(BASE_DIR / ".plyrum"))).resolve()
SITE_URL = env.str("PLYRUM_SITE_URL", default=f"http://127.0.0.1:{PORT}").rstrip("/")
ALLOWED_HOSTS = env.list(
    "PLYRUM_ALLOWED_HOSTS", default=[] if IS_PRODUCTION else ["localhost", "127.0.0.1", "[::1]", "testserver"]
)
# Only a fixed number of proxies in front is believed; 0 means the socket's own address is the client's.
PLYRUM_TRUSTED_PROXY_COUNT = env.int("PLYRUM_TRUSTED_PROXY_COUNT", default=0)
SECRET_KEY = env.str("PLYRUM_SECRET_KEY", default="")
if not SECRET_KEY:
    if IS_PRODUCTION:
        raise ImproperlyConfigured("Set PLYRUM_SECRET_KEY to a random string of at least 50 characters.")
    SECRET_KEY = keys.development_secret(PLYRUM_DATA_DIR)

# --- The outside: in development every address leads to the sandbox ---------------------------------------
PLYRUM_SANDBOX_URL = env.str(
    "PLYRUM_SANDBOX_URL", default="" if IS_PRODUCTION else f"http://127.0.0.1:{PORT + 100}"
).rstrip("/")
PLYRUM_SANDBOX_SMTP_PORT = env.int("PLYRUM_SANDBOX_SMTP_PORT", default=PORT + 101)

# --- Database and Redis -----------------------------------------------------------------------------------
# Without addresses a real PostgreSQL and a real Redis are started from wheels, data under PLYRUM_DATA_DIR.
SERVERS = embedded.Servers(PLYRUM_DATA_DIR)
DATABASE_URL = env.str("DATABASE_URL", default="")
REDIS_URL = env.str("REDIS_URL", default="") or SERVERS.redis_url
USES_EMBEDDED_POSTGRES = not DATABASE_URL
USES_EMBEDDED_REDIS = SERVERS.redis_url == REDIS_URL
# The role every process but `migrate` works as: it may not change or delete rows of money or of the journal.
PLYRUM_DATABASE_ROLE = env.str("PLYRUM_DATABASE_ROLE", default="plyrum_app")
_database: dict[str, Any] = env.db_url_config(DATABASE_URL) if DATABASE_URL else SERVERS.database
DATABASES = {
    "default": {
        **_database,
        "HOST": unquote(_database["HOST"]),  # a folder of a Unix socket is written %2Fpath in a URL
        "ENGINE": "django.db.backends.postgresql",
        "CONN_MAX_AGE": 0,  # under ASGI each thread would keep a connection of its own
        "OPTIONS": {
            **_database.get("OPTIONS", {}),  # sslmode and its kin
            "assume_role": PLYRUM_DATABASE_ROLE,
            "options": "-c lock_timeout=5s -c statement_timeout=30s"
            " -c idle_in_transaction_session_timeout=30s",
        },
    }
}
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "cache",
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Applications -----------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "plyrum.apps.FrameConfig",
    "auditlog",
    "legal",
    "accounts",
    "billing",
    "plans",
    "payments",
    "orchestration",
    "playground",
    "unfold.apps.BasicAppConfig",  # its default config would put its own site in place of ours
    "plyrum.apps.BackOfficeConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "csp",
    "django_cotton.apps.SimpleAppConfig",
    "django_htmx",
    "lucide",
    "ninja",
    "rest_framework",
]
MIDDLEWARE = [
    "plyrum.middleware.RequestFacts",
    "django.middleware.security.SecurityMiddleware",
    "plyrum.middleware.api_over_https",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "plyrum.urls"
ASGI_APPLICATION = "plyrum.asgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "loaders": [
                (
                    "django.template.loaders.cached.Loader",
                    [
                        "django_cotton.cotton_loader.Loader",
                        "django.template.loaders.filesystem.Loader",
                        "django.template.loaders.app_directories.Loader",
                    ],
                )
            ],
            "builtins": [
                "django_cotton.templatetags.cotton",
                "django.templatetags.i18n",
                "lucide.templatetags.lucide",
                "billing.templatetags.money",
            ],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "plyrum.context.frame",
                "billing.context.balance",
            ],
        },
    }
]
COTTON_DIR = "components"
COTTON_ISOLATE_BY_DEFAULT = True
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = DEBUG
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

# --- Language and time: Russian is the source, English the second copy; storage is UTC --------------------
LANGUAGE_CODE = "ru"
LANGUAGES = [("ru", "Русский"), ("en", "English")]
LOCALE_PATHS = [BASE_DIR / "locale", BASE_DIR / "locale_vendor"]  # the second: the back office's theme
USE_I18N = True
USE_TZ = True
TIME_ZONE = "Europe/Moscow"
USE_THOUSAND_SEPARATOR = True
FORMAT_MODULE_PATH = "plyrum.formats"

# --- Browser side -----------------------------------------------------------------------------------------
PAYMENT_PAGE_HOSTS = ["https://yookassa.ru", "https://yoomoney.ru"]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF, *PAYMENT_PAGE_HOSTS, *([PLYRUM_SANDBOX_URL] if PLYRUM_SANDBOX_URL else [])],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "object-src": [NONE],
    }
}
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SECURE_SSL_REDIRECT = env.bool("PLYRUM_SSL_REDIRECT", default=IS_PRODUCTION)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if PLYRUM_TRUSTED_PROXY_COUNT else None
API_PATHS = ("/api/", "/v1/")
SECURE_REDIRECT_EXEMPT = [f"^{path[1:]}" for path in API_PATHS]  # refused instead: plyrum.middleware
PROBE_PATHS = ("/api/health", "/api/ready")  # asked from inside the network, where there is no TLS
SECURE_HSTS_SECONDS = 31_536_000 if IS_PRODUCTION else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = IS_PRODUCTION
SECURE_HSTS_PRELOAD = IS_PRODUCTION
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = IS_PRODUCTION
SESSION_COOKIE_NAME = "__Host-session" if IS_PRODUCTION else f"plyrum-session-{PORT}"
CSRF_COOKIE_NAME = "__Host-csrf" if IS_PRODUCTION else f"plyrum-csrf-{PORT}"
SESSION_COOKIE_AGE = 14 * 24 * 3600  # idle fortnight for customers (security bar S2)
CSRF_TRUSTED_ORIGINS = [SITE_URL]
MAX_CHAT_BODY_BYTES = 2 * 1024 * 1024
MAX_JSON_BODY_BYTES = 64 * 1024
CHAT_BODY_PATHS = ("/api/runs/estimate",)  # ordinary doors that take the body of a run
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_CHAT_BODY_BYTES  # other endpoints refuse above 64 KiB themselves

# --- People: accounts and tokens --------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = reverse_lazy("account_login")
LOGIN_REDIRECT_URL = reverse_lazy("overview")
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_SIGNUP_FORM_CLASS = "accounts.forms.OfferForm"
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = True
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_LOGOUT_REDIRECT_URL = "/"
ACCOUNT_EMAIL_NOTIFICATIONS = True  # a letter about every change of password or address
PASSWORD_RESET_TIMEOUT = 3600  # seconds
ACCOUNT_RATE_LIMITS = {"login_failed": "10/m/ip,5/5m/key"}
ALLAUTH_TRUSTED_PROXY_COUNT = PLYRUM_TRUSTED_PROXY_COUNT
ACCESS_TOKEN_TTL = env.int("ACCESS_TOKEN_TTL", default=15 * 60)  # seconds
REFRESH_TOKEN_TTL = env.int("REFRESH_TOKEN_TTL", default=30 * 24 * 3600)  # seconds of a whole family
JWT_PRIVATE_KEY, JWT_PUBLIC_KEY = keys.token_keys(env, PLYRUM_DATA_DIR, is_production=IS_PRODUCTION)
# API keys of customers are stored as digests under these secrets, which no dump of the database holds.
PLYRUM_API_KEY_PEPPERS = keys.peppers(env, PLYRUM_DATA_DIR, is_production=IS_PRODUCTION)
PLYRUM_ADMIN_USER_IDS = frozenset(env.list("PLYRUM_ADMIN_USER_IDS", default=[]))
PLYRUM_DEV_SUPERACCOUNT_ENABLED = env.bool("PLYRUM_DEV_SUPERACCOUNT_ENABLED", default=False)
PLYRUM_DEV_SUPERACCOUNT_EMAIL = env.str("PLYRUM_DEV_SUPERACCOUNT_EMAIL", default="dev@plyrum.local")
PLYRUM_DEV_SUPERACCOUNT_PASSWORD = env.str("PLYRUM_DEV_SUPERACCOUNT_PASSWORD", default="")
PLYRUM_DEV_SUPERACCOUNT_USER_ID = env.str(
    "PLYRUM_DEV_SUPERACCOUNT_USER_ID", default="00000000-0000-7000-8000-000000000001"
)

# --- Money ------------------------------------------------------------------------------------------------
# Outside development a run without money is refused; in development it goes on with what is there.
PLYRUM_BILLING_ENFORCE_BALANCE = env.bool("PLYRUM_BILLING_ENFORCE_BALANCE", default=IS_PRODUCTION)
# Outside development customers ask as often as their tier may (table billing.RequestRate).
PLYRUM_ENFORCE_REQUEST_RATES = env.bool("PLYRUM_ENFORCE_REQUEST_RATES", default=IS_PRODUCTION)
# Roubles that one act of an owner may give or take at most, and that an owner may move alone within a day;
# above it a second one must approve (by default what a customer may top up at once). Other roles have a part
# of it: accounts/roles.py.
PLYRUM_ADMIN_CREDIT_MAX_RUB = env.int("PLYRUM_ADMIN_CREDIT_MAX_RUB", default=1_000_000)
PLYRUM_ADMIN_APPROVAL_ABOVE_RUB = env.int("PLYRUM_ADMIN_APPROVAL_ABOVE_RUB", default=100_000)
# What an answer that costs anything costs at least; counts from the next load of the catalogue on.
PLYRUM_MINIMUM_CHARGE_MICRO_RUB = env.int("PLYRUM_MINIMUM_CHARGE_MICRO_RUB", default=0)
if PLYRUM_MINIMUM_CHARGE_MICRO_RUB < 0:
    raise ImproperlyConfigured("PLYRUM_MINIMUM_CHARGE_MICRO_RUB is not below 0.")
PAYMENTS_PROVIDER = env.str("PAYMENTS_PROVIDER", default="" if IS_PRODUCTION else "yookassa")
if PAYMENTS_PROVIDER not in ("", "disabled", "mock", "yookassa"):
    raise ImproperlyConfigured("PAYMENTS_PROVIDER is mock, yookassa, disabled or empty.")
PAYMENTS_LIVE = env.bool("PAYMENTS_LIVE", default=False)
PAYMENTS_MOCK_WEBHOOK_SECRET = env.str("PAYMENTS_MOCK_WEBHOOK_SECRET", default="")
PAYMENTS_MIN_TOPUP_RUB = env.int("PAYMENTS_MIN_TOPUP_RUB", default=100)
PAYMENTS_MAX_TOPUP_RUB = env.int("PAYMENTS_MAX_TOPUP_RUB", default=100_000)
PAYMENTS_MAX_INVOICE_RUB = env.int("PAYMENTS_MAX_INVOICE_RUB", default=5_000_000)
YOOKASSA_API_BASE_URL = env.str(
    "YOOKASSA_API_BASE_URL",
    default=f"{PLYRUM_SANDBOX_URL}/yookassa/v3" if PLYRUM_SANDBOX_URL else "https://api.yookassa.ru/v3",
)
YOOKASSA_SHOP_ID = env.str("YOOKASSA_SHOP_ID", default="" if IS_PRODUCTION else "900001")
YOOKASSA_SECRET_KEY = env.str("YOOKASSA_SECRET_KEY", default="" if IS_PRODUCTION else "test_sandbox_secret")
YOOKASSA_RETURN_URL = env.str("YOOKASSA_RETURN_URL", default=f"{SITE_URL}/app/topup")
YOOKASSA_VAT_CODE = env.int("YOOKASSA_VAT_CODE", default=1)  # 1 = no VAT; the accountant decides
YOOKASSA_TAX_SYSTEM_CODE = env.int("YOOKASSA_TAX_SYSTEM_CODE", default=0)  # 0 = not sent

# --- Models and prices ------------------------------------------------------------------------------------
PLYRUM_CATALOGUE_PATH = Path(
    env.str(
        "PLYRUM_CATALOGUE_PATH",
        default=str(BASE_DIR / "orchestration" / "catalogues" / f"{PLYRUM_ENV}.toml"),
    )
)
PLYRUM_FX_SNAPSHOT_PATH = Path(
    env.str("PLYRUM_FX_SNAPSHOT_PATH", default=str(BASE_DIR / "billing" / "fx_snapshot.toml"))
)
# Where the day's official rates are read: the Bank of Russia's scripts.
PLYRUM_FX_BASE_URL = env.str(
    "PLYRUM_FX_BASE_URL",
    default=f"{PLYRUM_SANDBOX_URL}/cbr/scripts" if PLYRUM_SANDBOX_URL else "https://www.cbr.ru/scripts",
)
PLYRUM_FX_CURRENCIES = env.list("PLYRUM_FX_CURRENCIES", default=["USD"])
# A larger step from one list to the next is taken for an error and waits for an operator.
PLYRUM_FX_MAX_JUMP_PERCENT = env.int("PLYRUM_FX_MAX_JUMP_PERCENT", default=10)
# What exchange costs us on top of the official rate, in basis points; counts from the next rate on.
PLYRUM_FX_SPREAD_BP = env.int("PLYRUM_FX_SPREAD_BP", default=0)
if not 0 <= PLYRUM_FX_SPREAD_BP <= 10_000:
    raise ImproperlyConfigured("PLYRUM_FX_SPREAD_BP is between 0 and 10000 basis points.")
# By an older rate nothing is sold: four days without an answer of the bank are no longer a mishap.
PLYRUM_FX_MAX_AGE_DAYS = env.int("PLYRUM_FX_MAX_AGE_DAYS", default=4)
# Plain http, loopback and private addresses are refused for providers unless a developer asks for them.
PLYRUM_ALLOW_LOCAL_PROVIDER_BASE_URLS = env.bool(
    "PLYRUM_ALLOW_LOCAL_PROVIDER_BASE_URLS", default=not IS_PRODUCTION
)

# PLYRUM_<PROVIDER>_BASE_URL and PLYRUM_<PROVIDER>_API_KEYS (or _API_KEY), for every provider.
PROVIDER_BASE_URLS = provider_environment.base_urls(env.ENVIRON)
PROVIDER_API_KEYS = provider_environment.api_keys(env.ENVIRON)
if PLYRUM_SANDBOX_URL:
    PROVIDER_API_KEYS.setdefault("SANDBOX", ("sk-sandbox-1", "sk-sandbox-2"))
# Time limits of a provider call, in seconds.
PLYRUM_FIRST_TOKEN_SECONDS = env.int("PLYRUM_FIRST_TOKEN_SECONDS", default=20)
PLYRUM_FIRST_TOKEN_REASONING_SECONDS = env.int("PLYRUM_FIRST_TOKEN_REASONING_SECONDS", default=120)
PLYRUM_RUN_SECONDS = env.int("PLYRUM_RUN_SECONDS", default=540)  # below the 600 s that clients wait
HOLD_SECONDS = 15 * 60  # a hold lives so long, and again from each renewal: time for the sweep to settle it
# A run whose process has not been heard of for this long is ended by the sweep.
PLYRUM_RUN_LEASE_SECONDS = env.int("PLYRUM_RUN_LEASE_SECONDS", default=30)

# --- Background work --------------------------------------------------------------------------------------
CELERY_BROKER_URL = embedded.broker_url(REDIS_URL)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_TIME_LIMIT = 120  # seconds; far below the visibility timeout, so no task runs twice at once
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 3600,
    "global_keyprefix": "celery:",
    # A broker that is away costs a nudge, not the six seconds that would be waited inside a request.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = schedule.BEAT_SCHEDULE
CELERY_BEAT_SCHEDULE_FILENAME = str(PLYRUM_DATA_DIR / "beat-schedule")

# --- Mail -------------------------------------------------------------------------------------------------
EMAIL_CONFIG = env.email_url(
    "EMAIL_URL", default=f"smtp://127.0.0.1:{PLYRUM_SANDBOX_SMTP_PORT}" if not IS_PRODUCTION else "smtp://"
)
vars().update(EMAIL_CONFIG)
EMAIL_TIMEOUT = 10  # seconds; a dead mail server may not hold a sign-up
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.str("PLYRUM_MAIL_FROM", default="Plyrum <no-reply@plyrum.local>")

# --- Seller: shown on every public page and in every legal document ---------------------------------------
SELLER = {
    "name": env.str("PLYRUM_SELLER_LEGAL_NAME", default=""),
    "inn": env.str("PLYRUM_SELLER_TAX_ID", default=""),
    "address": env.str("PLYRUM_SELLER_REGISTERED_ADDRESS", default=""),
    "kpp": env.str("PLYRUM_SELLER_KPP", default=""),
    "bank_name": env.str("PLYRUM_SELLER_BANK_NAME", default=""),
    "bic": env.str("PLYRUM_SELLER_BIC", default=""),
    "account": env.str("PLYRUM_SELLER_ACCOUNT", default=""),
    "correspondent_account": env.str("PLYRUM_SELLER_CORRESPONDENT_ACCOUNT", default=""),
    "signatory": env.str("PLYRUM_SELLER_SIGNATORY", default=""),
    "email": env.str("PLYRUM_SUPPORT_EMAIL", default=""),
    "refund_email": env.str("PLYRUM_REFUND_SUPPORT_EMAIL", default=""),
    "privacy_email": env.str("PLYRUM_PRIVACY_CONTACT_EMAIL", default=""),
}

# --- APIs, logs, back office ------------------------------------------------------------------------------
# The frame names the apps' doors and never imports them.
API_ROUTERS = [
    ("/auth", "accounts.api.auth_router"),
    ("/account", "accounts.api.account_router"),
    ("/account/keys", "billing.api.keys_router"),
    ("/account/limits", "billing.api.limits_router"),
    ("/account/alerts", "billing.api.alerts_router"),
    ("/balance", "billing.api.balance_router"),
    ("/billing", "billing.api.router"),
    ("/payments", "payments.api.router"),
    ("/invoices", "payments.invoices.api.router"),
    ("/organisation", "payments.invoices.api.organisation_router"),
    ("", "plans.api.router"),
    ("/models", "orchestration.api.models_router"),
    ("/runs", "orchestration.api.runs_router"),
    ("/usage", "orchestration.api.usage_router"),
]
WHEN_SOMEBODY_JOINS = ["billing.ledger.open_wallet"]  # called with customer_id in the act that makes them
ACCOUNT_LIMITS = "billing.policies.by_window"  # what `GET /api/account` says about limits
WHEN_EMAIL_IS_CONFIRMED = ["plans.campaigns.welcome"]  # called with customer_id and now, in that act
LIMIT_SUBJECTS_SQL = "plans.queries.LIMIT_SUBJECTS"  # of which plan and organisation a customer is
ORGANISATION_OWNER = "payments.invoices.organisations.owner_of"  # who reads letters about its limits
LOTS_THAT_WAIT = "plans.queries.lots_to_roll_over"  # a condition on lots that the sweep leaves alone
# What `verify_ledger` asks beside billing's own checks.
LEDGER_CHECKS = ["plans.verification.checks", "payments.verification.checks"]
# What an operator moved without a second person; called with operator_id and since, answers micro-RUB.
MOVED_ALONE = [
    "billing.acts.moved_alone",
    "plans.campaigns.moved_alone",
    "payments.invoices.bank.moved_alone",
]
RUN_IS_RUNNING = "orchestration.queries.is_running"  # whether a hold, which has its run's id, is in use
OPENAPI_CONTRIBUTORS = ["orchestration.doors.describe"]
CATALOGUE_IS_LOADED = "orchestration.catalogue.is_loaded"
MODELS_ON_OFFER = "orchestration.catalogue.names"  # what a key may be limited to: labels of models by id
LEAN_ROUTES = "orchestration.doors.ROUTES"
ENGINE_OPENER = "orchestration.engine.open_engine"
DEV_SUPERACCOUNT = "accounts.superaccount.ensure_dev_superaccount"
DEMO_SEEDER = "playground.demo.seed"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.operator_auth.OperatorAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.operator_auth.IsOperator"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_METADATA_CLASS": None,  # OPTIONS is a method like others that are not offered
    "EXCEPTION_HANDLER": "plyrum.operator_problems.handle",
    "UNAUTHENTICATED_USER": None,
}
LOGGING_CONFIG = "plyrum.logs.configure_from_settings"
LOGGING = {"is_production": IS_PRODUCTION}
UNFOLD = {
    "SITE_TITLE": "Plyrum",
    "SITE_HEADER": "Plyrum",
    "SITE_SUBHEADER": _("Управление, время МСК"),
    "SITE_URL": "/",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "/static/plyrum/img/favicon.svg"}],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "8px",
    "STYLES": [lambda _request: static("plyrum/css/back_office.css")],
    "LOGIN": {"form": "accounts.operator_login.OperatorLoginForm"},
    "DASHBOARD_CALLBACK": "playground.back_office.dashboard",
    "COLORS": {
        "primary": {
            "50": "#eef8f5",
            "100": "#dfefea",
            "200": "#b8ddd3",
            "300": "#85c6b7",
            "400": "#4cc2ab",
            "500": "#1a8a77",
            "600": "#0b6b5c",
            "700": "#085347",
            "800": "#0a4339",
            "900": "#0b3730",
            "950": "#06231e",
        },
    },
    "SIDEBAR": {
        "show_search": True,
        "navigation": back_office_menu.NAVIGATION,
    },
}
