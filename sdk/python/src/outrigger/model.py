"""What the sidecar tells: clusters, backends, orders and events, as plain immutable data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Literal

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ._generated import control_pb2 as pb


class State(Enum):
    """The first that holds of a backend."""

    DRAINING = "draining"
    """No new picks, work that is there finishes."""
    UNHEALTHY = "unhealthy"
    """Probes fail, or its source says that it must not be used."""
    EJECTED = "ejected"
    """Real traffic has failed there."""
    PENDING = "pending"
    """Not probed yet."""
    READY = "ready"
    UNSPECIFIED = "unspecified"
    """Another, that this version does not know."""


class Reason(Enum):
    """What leads a key to a backend."""

    PIN = "pin"
    """It is pinned."""
    LEARNED = "learned"
    """It was there before."""
    HASH = "hash"
    """Its hash."""
    POLICY = "policy"
    """Nothing: the policy decides at each pick."""
    UNSPECIFIED = "unspecified"
    """Another, that this version does not know."""


class Outcome(Enum):
    """What real traffic showed about a backend."""

    SUCCESS = "success"
    CONNECT_FAILED = "connect_failed"
    RESET = "reset"
    TIMEOUT = "timeout"
    HTTP_5XX = "http_5xx"
    GRPC_ERROR = "grpc_error"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Order:
    """An override that somebody has ordered."""

    owner: str
    """`admin` for operators, `fleet` for orders to all sidecars, else what the app calls itself."""
    kind: Literal["weight", "factor", "drain", "pin", ""]
    value: float
    """The weight or the factor; 0 for the other kinds."""
    expires_at: datetime | None
    """When it ends by itself; `None` if it ends with a lease, or when it is taken back."""
    leased: bool

    @classmethod
    def _of(cls, order: pb.Order) -> Order:
        kind = order.WhichOneof("kind")
        value = {"weight": order.weight, "factor": order.factor}.get(kind or "", 0)
        return cls(order.owner, kind or "", value, _time(order, "expires_at"), order.leased)


@dataclass(frozen=True)
class Backend:
    """A backend as the sidecar sees it."""

    name: str
    """Its address: `10.0.0.1:80`, `[2001:db8::1]:80` or `unix:/run/app.sock`."""
    state: State
    reason: str
    """Why it is not ready, or not for long; empty if it is."""
    priority: int
    """The tier: lower numbers first."""
    configured_weight: float
    """The weight that discovery gives it."""
    effective_weight: float
    """The weight that it has now: orders and slow start included."""
    share: int
    """Its share among picks by weight, relative to the shares of the others; 0: it gets no new picks."""
    in_flight: int
    """What is under way at it from this sidecar. Not kept up to date by `watch`."""
    ewma: float | None
    """Average seconds to the head of an answer; `None` before the first. Not kept up to date by `watch`."""
    source: str
    """The kind of source that knows of it: static, file, dns, dns_srv, consul."""
    drain_deadline: datetime | None
    """When what is left of its work is ended by force; `None` unless it drains."""
    drained: bool
    """Whether it drains and nothing of its work is left."""
    orders: tuple[Order, ...]
    """The orders that act on it, but for pins."""
    pins: int
    """How many keys are pinned to it."""

    @classmethod
    def _of(cls, backend: pb.Backend) -> Backend:
        return cls(
            name=backend.name,
            state=_state(backend.state),
            reason=backend.reason,
            priority=backend.priority,
            configured_weight=backend.configured_weight,
            effective_weight=backend.effective_weight,
            share=backend.share,
            in_flight=backend.in_flight,
            ewma=_seconds(backend.ewma) if backend.HasField("ewma") else None,
            source=backend.source,
            drain_deadline=_time(backend, "drain_deadline"),
            drained=backend.drained,
            orders=tuple(map(Order._of, backend.orders)),
            pins=backend.pins,
        )


@dataclass(frozen=True)
class Cluster:
    """A named set of interchangeable backends."""

    name: str
    policy: str
    """round_robin, least_request, peak_ewma or random."""
    version: int
    """Counts up with every change."""
    panic: bool
    """Whether backends in doubt are used because too few others are left."""
    stale_since: datetime | None
    """Since when the source has failed to confirm the backends; `None` while it does."""
    backends: tuple[Backend, ...]
    pins: int
    """How many keys are pinned."""

    @classmethod
    def _of(cls, cluster: pb.Cluster) -> Cluster:
        return cls(
            name=cluster.name,
            policy=cluster.policy,
            version=cluster.version,
            panic=cluster.panic,
            stale_since=_time(cluster, "stale_since"),
            backends=tuple(map(Backend._of, cluster.backends)),
            pins=cluster.pins,
        )


@dataclass(frozen=True)
class View:
    """All backends of a cluster at one version."""

    instance: str
    """Tells this life of the sidecar from others."""
    version: int
    panic: bool
    """Whether backends in doubt are used because too few others are left."""
    backends: Mapping[str, Backend]
    """By their names."""


@dataclass(frozen=True)
class Affinity:
    """Where a key would go now, and why."""

    backend: str
    """Empty: nobody may be used, or the policy will decide."""
    reason: Reason
    pinned_to: str
    """The backend that the key is pinned to, even if that may not be used now; empty: none."""
    pin: Order | None

    @classmethod
    def _of(cls, answer: pb.GetAffinityResponse) -> Affinity:
        pin = Order._of(answer.pin) if answer.HasField("pin") else None
        return cls(answer.backend, _reason(answer.reason), answer.pinned_to, pin)


@dataclass(frozen=True)
class Drained:
    """How a drain ended."""

    forced: int
    """How much of the backend's work was ended by force."""
    resumed: bool
    """Whether it ended because the backend no longer drains: something of its work may be left."""


@dataclass(frozen=True)
class Event:
    """What has happened to a cluster or a backend, and why."""

    id: int
    """Counts up by one with every event of the sidecar, from 1."""
    at: datetime
    cluster: str
    backend: str
    """Empty: it concerns the cluster as a whole."""
    kind: str
    """joined, removed, healthy, unhealthy, ejected, recovered, draining, drained, resumed, weight, pinned, …"""
    cause: str


@dataclass(frozen=True)
class Events:
    events: tuple[Event, ...]
    """The oldest first."""
    latest: int
    """The id of the latest event there is, of whatever cluster: what to ask `after` next time."""

    @classmethod
    def _of(cls, answer: pb.ListEventsResponse) -> Events:
        events = (
            Event(e.id, e.at.ToDatetime(timezone.utc), e.cluster, e.backend, e.kind, e.cause)
            for e in answer.events
        )
        return cls(tuple(events), answer.latest)


@dataclass(frozen=True)
class Explanation:
    """Why a backend would be taken or not."""

    backend: str
    state: State
    share: float
    """Its share of picks by the policy, 0..=1."""
    why: str


@dataclass(frozen=True)
class Explained:
    """Who would be picked now, and why every other backend would not."""

    picked: str
    """Empty: none. Without affinity one of those with a share, by the policy."""
    reason: Reason
    summary: str
    """The same in words."""
    backends: tuple[Explanation, ...]

    @classmethod
    def _of(cls, answer: pb.ExplainResponse) -> Explained:
        backends = (Explanation(b.backend, _state(b.state), b.share, b.why) for b in answer.backends)
        return cls(answer.picked, _reason(answer.reason), answer.summary, tuple(backends))


def _state(state: pb.State.ValueType) -> State:
    return _STATES.get(state, State.UNSPECIFIED)


def _reason(reason: pb.Reason.ValueType) -> Reason:
    return _REASONS.get(reason, Reason.UNSPECIFIED)


# By number, since names are slow to look up and a watch may bring a thousand backends at once.
_STATES = {pb.State.Value(f"STATE_{state.name}"): state for state in State}
_REASONS = {pb.Reason.Value(f"REASON_{reason.name}"): reason for reason in Reason}


def _time(message: pb.Backend | pb.Cluster | pb.Order, field: str) -> datetime | None:
    if not message.HasField(field):  # type: ignore[arg-type]  # each has the one that it is asked for
        return None
    time: Timestamp = getattr(message, field)
    return time.ToDatetime(timezone.utc)


def _seconds(duration: Duration) -> float:
    return duration.ToNanoseconds() / 1e9
