"""Who may use which route: one table, asked before any handler runs. A route that does not stand in it is for admins of everything.

Operators come with an API token (``Authorization: Bearer``) or with the cookie of a session; what comes with a cookie and changes
anything must also bring the session's CSRF token, and must not come from another site's page.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from starlette.requests import Request

from farshore.core import twin
from farshore.core.digest import Digest
from farshore.core.errors import Denied, NotFound
from farshore.hub import acting, auth, roles, selector
from farshore.hub.acting import Actor
from farshore.hub.api import door
from farshore.hub.hub import Hub
from farshore.hub.operators import csrf_of
from farshore.hub.records import access, audit, blobs, deployments, devices, operators, rollouts
from farshore.hub.records.rollouts import Entry
from farshore.hub.roles import EVERY, NONE, Caller, Role

SAFE = {"GET", "HEAD"}
CSRF = "x-csrf-token"


class Need(NamedTuple):
    """A role, and over which fleet: ``every`` fleet (``*``); ``some``, where the handler looks closer; or the one that the thing in
    the address belongs to.
    """

    role: Role
    over: Literal["every", "some", "model", "device", "deployment", "enrolment", "rollout"]


_MODEL, _VERSION = "/v1/models/{name}", "/v1/models/{name}/versions/{version}"
_DEVICE, _DEPLOYMENT, _ROLLOUT = "/v1/devices/{device}", "/v1/deployments/{deployment}", "/v1/rollouts/{rollout}"
DEFAULT = Need("admin", "every")
TABLE: Mapping[tuple[str, str], Need] = {
    ("GET", "/v1/hub"): Need("viewer", "some"),
    ("GET", "/v1/me"): Need("viewer", "some"),
    ("POST", "/v1/logout"): Need("viewer", "some"),
    ("GET", "/v1/blobs/{digest}"): Need("publisher", "some"),
    ("PUT", "/v1/blobs/{digest}"): Need("publisher", "some"),
    ("POST", "/v1/blobs"): Need("publisher", "some"),
    ("POST", "/v1/recognitions"): Need("publisher", "some"),
    ("GET", "/v1/models"): Need("viewer", "some"),
    ("GET", _MODEL): Need("viewer", "model"),
    ("PATCH", _MODEL): Need("publisher", "model"),
    ("GET", f"{_MODEL}/versions"): Need("viewer", "model"),
    ("POST", f"{_MODEL}/versions"): Need("publisher", "model"),
    ("GET", _VERSION): Need("viewer", "model"),
    ("PATCH", _VERSION): Need("publisher", "model"),
    ("DELETE", _VERSION): Need("publisher", "model"),
    ("GET", f"{_VERSION}/manifest"): Need("viewer", "model"),
    ("GET", f"{_VERSION}/patches"): Need("viewer", "model"),
    ("POST", f"{_VERSION}/try"): Need("viewer", "model"),
    ("GET", f"{_VERSION}/files/{{path}}"): Need("viewer", "model"),
    ("GET", f"{_MODEL}/diff"): Need("viewer", "model"),
    ("GET", f"{_MODEL}/behaviour"): Need("viewer", "model"),
    ("GET", f"{_MODEL}/role"): Need("publisher", "model"),
    ("PUT", f"{_MODEL}/drafts/{{digest}}"): Need("publisher", "model"),
    ("PUT", f"{_MODEL}/aliases/{{alias}}"): Need("publisher", "model"),
    ("DELETE", f"{_MODEL}/aliases/{{alias}}"): Need("publisher", "model"),
    ("GET", "/v1/trust"): Need("viewer", "some"),
    ("PUT", "/v1/trust"): Need("admin", "every"),
    ("POST", "/v1/trust/keys"): Need("admin", "every"),
    ("POST", "/v1/enrolments"): Need("operator", "some"),
    ("GET", "/v1/enrolments"): Need("operator", "some"),
    ("DELETE", "/v1/enrolments/{enrolment}"): Need("operator", "enrolment"),
    ("GET", "/v1/devices"): Need("viewer", "some"),
    ("GET", "/v1/summary"): Need("viewer", "some"),
    ("POST", "/v1/devices"): Need("operator", "some"),
    ("GET", _DEVICE): Need("viewer", "device"),
    ("DELETE", _DEVICE): Need("operator", "device"),
    ("POST", f"{_DEVICE}/approve"): Need("operator", "device"),
    ("POST", f"{_DEVICE}/quarantine"): Need("operator", "device"),
    ("POST", f"{_DEVICE}/revoke"): Need("operator", "device"),
    ("GET", f"{_DEVICE}/twin"): Need("viewer", "device"),
    ("PATCH", f"{_DEVICE}/twin"): Need("operator", "device"),
    ("PUT", f"{_DEVICE}/twin"): Need("operator", "device"),
    ("GET", f"{_DEVICE}/timeline"): Need("viewer", "device"),
    ("GET", f"{_DEVICE}/why/{{model}}"): Need("viewer", "device"),
    ("POST", f"{_DEVICE}/connection"): Need("operator", "device"),
    ("POST", f"{_DEVICE}/methods/{{method}}"): Need("operator", "device"),
    ("POST", f"{_DEVICE}/messages"): Need("operator", "device"),
    ("GET", f"{_DEVICE}/messages"): Need("viewer", "device"),
    ("GET", f"{_DEVICE}/waiting"): Need("viewer", "device"),
    ("GET", "/v1/messages"): Need("viewer", "every"),
    ("GET", "/v1/provisioning"): Need("admin", "every"),
    ("GET", "/v1/policies"): Need("admin", "every"),
    ("POST", "/v1/policies/{policy}/renew"): Need("admin", "every"),
    ("GET", f"{_DEVICE}/order"): Need("operator", "device"),
    ("PATCH", f"{_DEVICE}/reported"): Need("operator", "device"),
    ("GET", "/v1/deployments"): Need("viewer", "some"),
    ("POST", "/v1/deployments"): Need("operator", "some"),
    ("GET", _DEPLOYMENT): Need("viewer", "deployment"),
    ("PUT", _DEPLOYMENT): Need("operator", "some"),
    ("DELETE", _DEPLOYMENT): Need("operator", "deployment"),
    ("GET", "/v1/rollouts"): Need("viewer", "some"),
    ("POST", "/v1/rollouts"): Need("operator", "some"),
    ("POST", "/v1/rollouts/plan"): Need("operator", "some"),
    ("GET", _ROLLOUT): Need("viewer", "rollout"),
    ("GET", f"{_ROLLOUT}/devices"): Need("viewer", "rollout"),
    ("GET", f"{_ROLLOUT}/timeline"): Need("viewer", "rollout"),
    ("POST", f"{_ROLLOUT}/pause"): Need("operator", "rollout"),
    ("POST", f"{_ROLLOUT}/resume"): Need("operator", "rollout"),
    ("POST", f"{_ROLLOUT}/advance"): Need("operator", "rollout"),
    ("POST", f"{_ROLLOUT}/abort"): Need("operator", "rollout"),
    ("POST", f"{_ROLLOUT}/rollback"): Need("operator", "rollout"),
    ("GET", "/v1/settings"): Need("viewer", "some"),
    ("PUT", "/v1/settings/{settings}"): Need("operator", "some"),
    ("DELETE", "/v1/settings/{settings}"): Need("operator", "some"),
    ("GET", "/v1/links"): Need("viewer", "some"),
    ("PUT", "/v1/links/{link}"): Need("operator", "every"),
    ("DELETE", "/v1/links/{link}"): Need("operator", "every"),
    ("GET", "/v1/ledger"): Need("viewer", "every"),
    ("GET", "/v1/savings"): Need("viewer", "every"),
    ("GET", "/v1/changes"): Need("viewer", "every"),
    ("GET", "/v1/events"): Need("viewer", "some"),
    ("GET", "/v1/tokens"): Need("viewer", "some"),
    ("POST", "/v1/tokens"): Need("viewer", "some"),
    ("DELETE", "/v1/tokens/{token}"): Need("viewer", "some"),
    ("GET", "/v1/operators"): Need("admin", "every"),
    ("PUT", "/v1/operators/{operator}"): Need("admin", "every"),
    ("DELETE", "/v1/operators/{operator}"): Need("admin", "every"),
    ("GET", "/v1/audit"): Need("admin", "every"),
}


UNNOTED = {
    ("POST", "/v1/rollouts/plan"),
    ("POST", "/v1/logout"),
    ("POST", "/v1/recognitions"),
    ("POST", f"{_VERSION}/try"),
}
"""What changes nothing that anybody would ask about later."""


def caller(request: Request) -> Caller:
    """Who asks, once :func:`admit` has let them in."""
    found: Caller = request.state.caller
    return found


async def admit(request: Request, method: str, path: str) -> None:
    """Let an operator through, or not.

    Args:
        request: theirs.
        method: of the route.
        path: of the route.

    Raises:
        Unauthenticated: nobody known asks.
        Denied: they may not, or somebody else's page asks in their name.

    """
    hub: Hub = request.app.state.hub
    need = TABLE.get((method, path), DEFAULT)

    def look() -> Caller:
        found = identify(request, hub)
        _check(hub, found, need, request)
        return found

    found = await hub.threads(look)
    request.state.caller = found
    if request.method not in SAFE:
        acting.now.set(Actor(found.name, found.via))


async def note(request: Request, method: str, path: str) -> None:
    """Write down what was done, where the handler has not: no change goes without a line in the audit log."""
    actor, hub = acting.now.get(), request.app.state.hub
    if actor is None or actor.noted or (method, path) in UNNOTED:
        return

    def write() -> None:
        with hub.database.writing() as tx:
            audit.add(tx, hub.clock(), actor.name, actor.via, f"{method} {path}", request.url.path[:500], None, None)

    await hub.threads(write)


def cookie_name(hub: Hub) -> str:
    """Of sessions. With TLS the browser itself sees to it that no neighbour and no plain page has set it."""
    return "__Host-farshore" if hub.settings.url.startswith("https:") else "farshore"


def identify(request: Request, hub: Hub) -> Caller:
    """Who asks, by header or cookie; errors as :func:`admit`."""
    header, cookie = request.headers.get("authorization"), request.cookies.get(cookie_name(hub))
    if header is not None or cookie is None:
        return hub.operators.by_token(auth.bearer(header))
    found = hub.operators.by_session(cookie)
    if request.method not in SAFE:
        if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            raise Denied("this comes from another site's page")
        if not hmac.compare_digest(request.headers.get(CSRF, "").encode(), csrf_of(cookie).encode()):
            raise Denied("the CSRF token is missing or wrong: load the page again")
    return found


def _check(hub: Hub, found: Caller, need: Need, request: Request) -> None:
    if need.over == "some":
        found.need_somewhere(need.role)
    elif need.over == "every" or found.may(need.role, EVERY):
        found.need(need.role, EVERY)
    elif need.over == "model":
        name = door.segment(request, "name")
        if need.role == "viewer":
            found.need_model(name)
        else:
            found.need(need.role, roles.fleet_of_model(name))
    else:
        for fleet in _fleets(hub, need.over, door.segment(request, need.over), need.role):
            found.need(need.role, fleet)


def _fleets(hub: Hub, kind: str, key: str, role: Role) -> Sequence[str]:
    """The fleets that somebody needs ``role`` on for a thing.

    A rollout is its starters': it belongs to what it was started with, whatever its deployment says today. To steer one also moves
    the devices that the deployment has now.
    """
    if kind != "rollout":
        return [_fleet(hub, kind, key)]
    with hub.database.reading() as tx:
        entry = rollouts.one(tx, key)
        if entry is None:
            return [NONE]
        rule = deployments.one(tx, entry.deployment)
    texts = [entry.selector, rule.selector if rule is not None and role != "viewer" else entry.selector]
    return [NONE if text is None else selector.parse(text).fleet for text in texts]


def may_see(caller: Caller, entry: Entry) -> bool:
    """Whether the caller may know of a rollout."""
    return caller.may("viewer", NONE if entry.selector is None else selector.parse(entry.selector).fleet)


def _fleet(hub: Hub, kind: str, key: str) -> str:
    """The fleet that a thing belongs to. What is not there belongs to none, so that asking does not tell what is."""
    with hub.database.reading() as tx:
        if kind == "device":
            row = devices.twin(tx, key)
            return NONE if row is None else roles.fleet_of_tags(row.tags)
        if kind == "enrolment":
            token = access.enrolment_by_id(tx, key)
            return NONE if token is None else token.fleet
        rule = deployments.one(tx, key)
        return NONE if rule is None else selector.parse(rule.selector).fleet


def check_tags(caller: Caller, tags: Mapping[str, Any]) -> None:
    """Pass if the caller may have a device with these tags; errors as :meth:`~farshore.hub.roles.Caller.need`."""
    caller.need("operator", roles.fleet_of_tags(tags))


def check_held(hub: Hub, caller: Caller, digests: list[Digest]) -> None:
    """Pass if the caller has held the bytes of all these digests: uploaded them, or may read a version with them. To know a
    digest is not to have the file.

    Raises:
        NotFound: of one they have not; that is also what is said where there is no such blob.

    """
    if caller.may("publisher", EVERY) or caller.may("viewer", EVERY):
        return
    with hub.database.reading() as tx:
        for digest in digests:
            models = blobs.models_with(tx, digest)
            if not any(map(caller.may_read_model, models)) and not operators.uploaded(tx, caller.name, digest):
                raise NotFound(f"no blob {digest}: upload it")


def note_upload(hub: Hub, caller: Caller, digest: Digest) -> None:
    """Remember that the caller held these bytes, if that will be asked."""
    if not caller.may("publisher", EVERY):
        with hub.database.writing() as tx:
            operators.note_upload(tx, caller.name, digest)


def check_twin(caller: Caller, document: Mapping[str, Any], *, replace: bool) -> None:
    """Pass if the caller may say this of a device that is theirs: it stays within their fleets, and so do its models.

    Raises:
        Denied: it would go to another fleet, or get another's model.

    """
    tags, properties = document.get("tags"), document.get("properties")
    if isinstance(tags, dict) and (replace or roles.TAG in tags):
        check_tags(caller, tags)
    desired = properties.get("desired") if isinstance(properties, dict) else None
    models = desired.get("models") if isinstance(desired, dict) else None
    for key in models if isinstance(models, dict) else ():
        caller.need_model(twin.name_of(str(key)))


def within_fleets(caller: Caller, where: str) -> str:
    """The selector ``where``, as far as the caller may see.

    Raises:
        Invalid: it is none.

    """
    selector.parse(where or "*")  # whole as it stands: what is put around it cannot be broken out of
    if caller.may("viewer", EVERY):
        return where
    fleets = ", ".join(f"'{one.fleet}'" for one in caller.grants)
    return f"tags.fleet IN [{fleets}] AND ({where or '*'})"


def check_deployment(hub: Hub, caller: Caller, key: str, where: str, ref: str) -> None:
    """Pass if the caller may make the deployment ``key``, or change it, to say this.

    Raises:
        Denied: it would reach, or reaches, devices of another fleet, or name another's model.
        Invalid: the selector is none.

    """
    caller.need_model(ref.partition("@")[0])
    with hub.database.reading() as tx:
        held = deployments.one(tx, key) if key else None
    for text in [held.selector] if held and not where else [where or "*", *([held.selector] if held else [])]:
        check_reach(caller, text)


def check_reach(caller: Caller, where: str) -> None:
    """Pass if the caller may say what the devices do that a selector matches.

    Raises:
        Denied: it reaches beyond their fleets.
        Invalid: the selector is none.

    """
    fleet = selector.parse(where).fleet
    if not caller.may("operator", fleet):
        raise Denied(
            f"the selector {where[:80]!r} reaches beyond your fleets: write tags.fleet = 'NAME' AND (…)"
            if fleet == NONE
            else f"this needs the role operator on fleet {fleet!r}: ask an admin"
        )
