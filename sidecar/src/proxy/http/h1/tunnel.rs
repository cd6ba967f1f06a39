//! After a switch of protocols (101): bytes both ways, whatever they mean.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::attempt::Answered;
use super::downstream::Downstream;
use super::exchange::{After, Plan};
use super::fields::Kind;
use super::framing::Framing;
use super::head::Response;
use super::relay::{Relay, RelayError, Side};
use super::write;
use crate::net::dial::Patience;
use crate::net::wire::Wire;
use crate::proxy::http::site::Record;
use crate::telemetry::metrics::{End, Outcome};

/// Relays the 101 and then everything, until both sides have ended.
pub(super) async fn run(
    app: &mut Downstream,
    plan: &Plan<'_>,
    answered: Answered<'_>,
    response: &Response<'_>,
    set_cookie: &[u8],
    mut record: Record<'_>,
) -> After {
    let Answered { mut work, mut connection, .. } = answered;
    record.without_duration();
    connection.set_patience(Patience::Long);
    let protocol = response.fields.values(Kind::Upgrade).next().unwrap_or_default();
    write::switch_head(app.wire.output.bytes(), response, protocol, set_cookie);
    let mut there = Way::default();
    let mut back = Way::default();
    let idle = plan.cluster().settings().timeouts.idle;
    app.upstream.set(idle);
    record.end = poll_fn(|cx| {
        let backend = &mut connection.wire;
        let before = (app.wire.written, backend.written);
        let to_backend = there.poll(&mut app.wire, backend, cx);
        let to_app = back.poll(backend, &mut app.wire, cx);
        plan.sent(there.uncounted());
        plan.received(back.uncounted());
        match (to_backend, to_app) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Finished),
            (Poll::Ready(Err(side)), _) => return Poll::Ready(broken(side == Side::From)),
            (_, Poll::Ready(Err(side))) => return Poll::Ready(broken(side == Side::To)),
            _ => {}
        }
        if before != (app.wire.written, backend.written) {
            app.upstream.set(idle);
        }
        if work.poll(cx).is_ready() {
            return Poll::Ready(End::Drained);
        }
        ready!(app.upstream.poll(cx));
        Poll::Ready(End::Idle)
    })
    .await;
    app.upstream.clear();
    match record.end {
        End::Finished | End::Idle => work.pick.outcome(Outcome::Success),
        End::ByBackend => work.pick.outcome(Outcome::Reset),
        // Not the backend's fault: it counts as cancelled.
        _ => {}
    }
    if record.end == End::Finished {
        return After::Close;
    }
    // Neither side may take what broke off for whole.
    connection.wire.stream.reset_on_close();
    After::Reset
}

fn broken(by_app: bool) -> End {
    if by_app { End::ByApp } else { End::ByBackend }
}

/// One direction.
struct Way {
    relay: Relay,
    counted: u64,
    shut: bool,
}

impl Default for Way {
    fn default() -> Self {
        Self { relay: Relay::new(Framing::UntilClose, None), counted: 0, shut: false }
    }
}

impl Way {
    /// Ready when one side has ended and the other has been told, or with the side that broke.
    fn poll(
        &mut self,
        from: &mut Wire,
        to: &mut Wire,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Side>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        ready!(self.relay.poll(from, to, cx)).map_err(|error| match error {
            RelayError::To(_) => Side::To,
            RelayError::From(_) | RelayError::Defect(_) => Side::From,
        })?;
        ready!(Pin::new(&mut to.stream).poll_shutdown(cx)).map_err(|_| Side::To)?;
        self.shut = true;
        Poll::Ready(Ok(()))
    }

    /// Bytes moved since the last time it was asked.
    fn uncounted(&mut self) -> u64 {
        let new = self.relay.moved - self.counted;
        self.counted = self.relay.moved;
        new
    }
}
