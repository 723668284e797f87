"""The customer API about people: /api/auth/* (open to visitors) and /api/account (own profile)."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string
from ninja import Router, Status

from accounts import login as signing_in
from accounts import sessions, signup
from accounts.auth import bearer_of, credential_of
from accounts.credentials import Credential
from accounts.models import User
from accounts.requests import origin_of
from accounts.schemas import (
    AccountOut,
    ConsentOut,
    LoginIn,
    LogoutIn,
    ProfileOut,
    RefreshIn,
    RegisterIn,
    SessionOut,
)
from accounts.shapes import Profile, TokenPair
from auditlog.actors import Actor
from legal import acceptances
from plyrum import clock
from plyrum.errors import InvalidRequest, Unauthenticated

auth_router = Router(tags=["auth"], auth=None)  # public on purpose: these calls are how one becomes somebody
account_router = Router(tags=["account"])


@auth_router.post("/register", response={201: SessionOut}, summary="Register a customer")
def register(request: HttpRequest, response: HttpResponse, data: RegisterIn) -> Status[SessionOut]:
    """Creates the user, records the accepted offer in force and opens a session. 409 `email_taken`."""
    pair = signup.register(
        email=data.email,
        password=data.password,
        locale=data.locale,
        origin=origin_of(request, "api"),
        now=clock.now(),
    )
    return Status(201, _session(response, pair))


@auth_router.post("/login", response=SessionOut, summary="Sign in")
def login(request: HttpRequest, response: HttpResponse, data: LoginIn) -> SessionOut:
    """401 `invalid_credentials` for unknown e-mail and wrong password alike; 429 after repeated failures."""
    pair = signing_in.login(
        email=data.email, password=data.password, origin=origin_of(request, "api"), now=clock.now()
    )
    return _session(response, pair)


@auth_router.post("/refresh", response=SessionOut, summary="Exchange a refresh token")
def refresh(request: HttpRequest, response: HttpResponse, data: RefreshIn) -> SessionOut:
    """A refresh token works once. Again in 10 s: 409 `refresh_in_progress`; later 401 `refresh_reused`."""
    pair = sessions.refresh(
        refresh_token=data.refresh_token, origin=origin_of(request, "api"), now=clock.now()
    )
    return _session(response, pair)


@auth_router.post("/logout", response={204: None}, summary="Sign out")
def logout(request: HttpRequest, data: LogoutIn) -> Status[None]:
    """Ends the session of `refresh_token`; with `all` every session of its (or the bearer's) owner."""
    origin, now = origin_of(request, "api"), clock.now()
    if data.all:
        owner = sessions.owner_of(data.refresh_token, now=now) if data.refresh_token else None
        if owner is None:
            token = bearer_of(request)
            if not token:
                raise Unauthenticated
            owner = credential_of(token).user_id
        sessions.logout_everywhere(
            user_id=owner, now=now, actor=Actor.customer(owner, ip=origin.ip, request_id=origin.request_id)
        )
    elif data.refresh_token:
        sessions.logout(refresh_token=data.refresh_token, origin=origin, now=now)
    else:
        row = {"loc": ["body", "refresh_token"], "msg": "Field required", "type": "missing"}
        raise InvalidRequest("Send refresh_token or all.", errors=[row])
    return Status(204, None)


@account_router.get("", response=AccountOut, summary="Own profile")
def account(request: HttpRequest) -> AccountOut:
    """Profile, accepted documents and limits of the caller."""
    credential: Credential = request.credential  # type: ignore[attr-defined]
    user = User.objects.get(pk=credential.user_id)
    consents = [
        ConsentOut(
            document=row.version.document.kind,
            version=row.version.number,
            version_id=row.version_id,
            sha256=row.sha256,
            act=row.act,
            created_at=clock.rfc3339(row.created_at),
        )
        for row in acceptances.of_user(user.id)
    ]
    return AccountOut(
        **_profile(sessions.profile(user)).dict(),
        role=credential.role,
        locale=user.locale,
        unlimited=credential.is_unlimited,
        consents=consents,
        missing_acceptances=acceptances.missing_for(user.id, at=clock.now()),
        limits=import_string(settings.ACCOUNT_LIMITS)(user.id, now=clock.now()),
    )


def _session(response: HttpResponse, pair: TokenPair) -> SessionOut:
    response["Cache-Control"] = "no-store"
    return SessionOut(
        access_token=pair.access_token,
        refresh_token=pair.refresh_token,
        expires_in=pair.expires_in,
        user=_profile(pair.user),
    )


def _profile(profile: Profile) -> ProfileOut:
    return ProfileOut(
        id=profile.id,
        email=profile.email,
        email_verified=profile.email_verified,
        is_operator=profile.is_operator,
        created_at=clock.rfc3339(profile.created_at),
    )
