"""What an app may ask of the Outrigger sidecar beside it, and tell it. See the README for the words.

`Client` and `Balancer` are for asyncio; `outrigger.sync` has the same for everybody else.
"""

from .affinity import affinity_headers, httpx_hook, requests_auth
from .balancer import Balancer
from .client import Client
from .connection import Tls
from .errors import (
    DeadlineExceeded,
    Denied,
    Exhausted,
    InvalidArgument,
    NotFound,
    OutriggerError,
    Unavailable,
    Violation,
)
from .interceptors import grpc_aio_interceptors, grpc_interceptor
from .lease import Lease
from .model import (
    Affinity,
    Backend,
    Cluster,
    Drained,
    Event,
    Events,
    Explained,
    Explanation,
    Order,
    Outcome,
    Reason,
    State,
    View,
)
from .per_backend import PerBackend
from .proxy_protocol import proxy_header

__all__ = [
    "Affinity",
    "Backend",
    "Balancer",
    "Client",
    "Cluster",
    "DeadlineExceeded",
    "Denied",
    "Drained",
    "Event",
    "Events",
    "Exhausted",
    "Explained",
    "Explanation",
    "InvalidArgument",
    "Lease",
    "NotFound",
    "Order",
    "Outcome",
    "OutriggerError",
    "PerBackend",
    "Reason",
    "State",
    "Tls",
    "Unavailable",
    "View",
    "Violation",
    "affinity_headers",
    "grpc_aio_interceptors",
    "grpc_interceptor",
    "httpx_hook",
    "proxy_header",
    "requests_auth",
]
