//! Bodies on their way through: nothing is kept but the piece in hand.
//!
//! hyper polls the body of one side when the other side has room, so pressure is passed on
//! without a buffer of ours. What is added here is the end of the story: whether it was whole,
//! how long it may pause, and what happens to the connection that carried it.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::downstream::Downstream;
use super::exchange::{LocalCluster, Record};
use super::headers;
use crate::cluster::Pick;
use crate::telemetry::metrics::Outcome;
use crate::upstream::Connection;

/// How long a backend may leave a `100-continue` unanswered before the body is sent anyway: it
/// may not know the expectation (RFC 9110, section 10.1.1).
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the app paused for too long")]
    AppTimeout,
    #[error("the backend paused for too long")]
    BackendTimeout,
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// The body of a request, on its way to the backend.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    Streaming(Box<Streaming>),
}

#[derive(Debug)]
pub(crate) struct Streaming {
    incoming: Incoming,
    upload: Rc<Upload>,
    gate: Option<(Arc<Gate>, Pin<Box<Sleep>>)>,
}

/// How far a request body has come, for those who wait for the answer.
#[derive(Debug)]
pub(super) struct Upload {
    state: Cell<UploadState>,
    /// How long the backend may be silent after the latest piece.
    patience: Cell<Option<Duration>>,
    downstream: Rc<Downstream>,
    cluster: Rc<LocalCluster>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadState {
    /// Not a byte has been asked for.
    Untouched,
    Flowing,
    Done,
    /// The backend has answered and wants no more of it.
    Stopped,
    /// The app paused for too long.
    TimedOut,
    /// The app left, or broke the framing.
    Broken,
}

impl Upload {
    pub(super) fn new(downstream: Rc<Downstream>, cluster: Rc<LocalCluster>) -> Rc<Self> {
        let patience = Cell::new(cluster.settings().timeouts.response);
        Rc::new(Self { state: Cell::new(UploadState::Untouched), patience, downstream, cluster })
    }

    pub(super) fn state(&self) -> UploadState {
        self.state.get()
    }

    /// The head of the answer is here. An error means that the backend will not use the rest
    /// (RFC 9112, section 9.3); after a success both sides may still be talking.
    pub(super) fn answered(&self, success: bool) {
        self.patience.set(self.cluster.settings().timeouts.stream_idle);
        if !success && self.state.get() != UploadState::Done {
            self.state.set(UploadState::Stopped);
        }
    }

    fn end(&self, state: UploadState) {
        self.downstream.read.clear();
        self.state.set(state);
    }
}

/// Holds a body back until the backend says that it wants it.
#[derive(Debug, Default)]
pub(super) struct Gate {
    open: AtomicBool,
    waker: AtomicWaker,
}

impl Gate {
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl RequestBody {
    pub(super) fn streaming(
        incoming: Incoming,
        upload: Rc<Upload>,
        gate: Option<Arc<Gate>>,
    ) -> Self {
        let gate = gate.map(|gate| (gate, Box::pin(tokio::time::sleep(CONTINUE_PATIENCE))));
        Self::Streaming(Box::new(Streaming { incoming, upload, gate }))
    }
}

impl Streaming {
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((gate, patience)) = &mut self.gate {
            gate.waker.register(cx.waker());
            if !gate.open.load(Ordering::Acquire) {
                ready!(patience.as_mut().poll(cx));
            }
            self.gate = None;
        }
        Poll::Ready(())
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { incoming, upload, .. } = self;
        if upload.state() == UploadState::Stopped {
            // An error here would make hyper drop the answer too. The connection is closed when
            // the answer has ended.
            return Poll::Pending;
        }
        upload.state.set(UploadState::Flowing);
        let read = &upload.downstream.read;
        let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) else {
            read.set_if_clear(upload.downstream.timeouts.body_idle);
            ready!(read.poll(cx));
            upload.end(UploadState::TimedOut);
            return Poll::Ready(Some(Err(BodyError::AppTimeout)));
        };
        read.clear();
        Poll::Ready(match frame {
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref() {
                    upload.cluster.metrics().bytes_to_backend.increment(data.len() as u64);
                }
                if let Some(trailers) = frame.trailers_mut() {
                    headers::trailers(trailers);
                }
                upload.downstream.upstream.set(upload.patience.get());
                if incoming.is_end_stream() {
                    upload.end(UploadState::Done);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                upload.end(UploadState::Broken);
                Some(Err(error.into()))
            }
            None => {
                upload.end(UploadState::Done);
                None
            }
        })
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(streaming) => {
                ready!(streaming.poll_gate(cx));
                streaming.poll_frame(cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(streaming) => streaming.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(streaming) => streaming.incoming.size_hint(),
        }
    }
}

/// The body of an answer, on its way to the app.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// An answer of ours.
    Own {
        text: Option<Bytes>,
        _record: Record,
    },
    Relayed(Relayed),
}

#[derive(Debug)]
pub(crate) struct Relayed {
    incoming: Incoming,
    /// Until the body has ended.
    relay: Option<Relay>,
}

/// What is held until an answer has been relayed. Dropped before, the app has left: the
/// connection to the backend is closed and the attempt counts as cancelled.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) pick: Pick,
    /// What the attempt came to, if the body arrives whole.
    pub(super) outcome: Outcome,
    pub(super) connection: Connection<RequestBody>,
    pub(super) upload: Option<Rc<Upload>>,
    pub(super) cluster: Rc<LocalCluster>,
    pub(super) downstream: Rc<Downstream>,
    pub(super) record: Record,
}

impl Relay {
    /// The answer is whole.
    fn finish(mut self) {
        self.pick.outcome(self.outcome);
        let uploaded = |upload: &Rc<Upload>| upload.state() == UploadState::Done;
        // A connection with half a request on it is of no further use.
        if self.upload.as_ref().is_none_or(uploaded) {
            self.cluster.pool.put(self.connection);
        }
        drop(self.record);
    }

    /// The answer broke off.
    fn fail(mut self, outcome: Outcome) {
        self.pick.outcome(outcome);
        self.downstream.truncated.set(true);
    }
}

impl ResponseBody {
    pub(super) fn relayed(incoming: Incoming, relay: Relay) -> Self {
        let mut relayed = Relayed { incoming, relay: Some(relay) };
        relayed.finish_if_ended();
        Self::Relayed(relayed)
    }
}

impl Relayed {
    fn finish_if_ended(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(relay) = self.relay.take()
        {
            relay.finish();
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(relay) = &self.relay else { return Poll::Ready(None) };
        let timer = &relay.downstream.upstream;
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            timer.set_if_clear(relay.cluster.settings().timeouts.stream_idle);
            ready!(timer.poll(cx));
            if let Some(relay) = self.relay.take() {
                relay.fail(Outcome::Timeout);
            }
            return Poll::Ready(Some(Err(BodyError::BackendTimeout)));
        };
        timer.clear();
        Poll::Ready(match frame {
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref() {
                    relay.cluster.metrics().bytes_from_backend.increment(data.len() as u64);
                }
                if let Some(trailers) = frame.trailers_mut() {
                    headers::trailers(trailers);
                }
                self.finish_if_ended();
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                if let Some(relay) = self.relay.take() {
                    relay.fail(Outcome::Reset);
                }
                Some(Err(error.into()))
            }
            None => {
                if let Some(relay) = self.relay.take() {
                    relay.finish();
                }
                None
            }
        })
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own { text, .. } => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Relayed(relayed) => relayed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { text, .. } => text.is_none(),
            Self::Relayed(relayed) => relayed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { text, .. } => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Self::Relayed(relayed) => relayed.incoming.size_hint(),
        }
    }
}
