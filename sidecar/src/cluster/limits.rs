//! How much work a cluster takes at a time, and who waits for room.

use std::sync::atomic::{AtomicU32, Ordering, fence};

use tokio::sync::Notify;

use super::load::Load;
use crate::config::Limits;

/// Counts what is bounded, for all workers. A cluster without bounds has none.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    requests: AtomicU32,
    connections: AtomicU32,
    waiting: AtomicU32,
    room: Notify,
}

impl Gate {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            requests: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            room: Notify::new(),
        }
    }

    /// Begins an attempt at the backend with this load, if there is room with it and in the
    /// cluster.
    pub(super) fn begin(&self, load: &Load) -> bool {
        if !raise(&self.requests, self.limits.max_requests) {
            return false;
        }
        let begun = load.try_begin(self.limits.backend_max_requests.unwrap_or(u32::MAX));
        if !begun {
            self.requests.fetch_sub(1, Ordering::Relaxed);
        }
        begun
    }

    pub(super) fn end(&self) {
        self.requests.fetch_sub(1, Ordering::AcqRel);
        self.tell();
    }

    /// Whether the cluster as a whole has room for another request.
    pub(super) fn has_room(&self) -> bool {
        let requests = self.requests.load(Ordering::Acquire);
        self.limits.max_requests.is_none_or(|limit| requests < limit)
    }

    /// Whether a backend with this load has as much as it may have.
    pub(super) fn is_full(&self, load: &Load) -> bool {
        self.limits.backend_max_requests.is_some_and(|limit| load.in_flight() >= limit)
    }

    /// Whether there is room for another connection, in the cluster and to this backend.
    pub(super) fn may_connect(&self, of_backend: &AtomicU32) -> bool {
        let below = |count: &AtomicU32, limit: Option<u32>| {
            limit.is_none_or(|limit| count.load(Ordering::Acquire) < limit)
        };
        below(&self.connections, self.limits.max_connections)
            && below(of_backend, self.limits.backend_max_connections)
    }

    pub(super) fn connect(&self, of_backend: &AtomicU32) -> bool {
        if !raise(&self.connections, self.limits.max_connections) {
            return false;
        }
        let connected = raise(of_backend, self.limits.backend_max_connections);
        if !connected {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
        connected
    }

    pub(super) fn disconnect(&self) {
        self.connections.fetch_sub(1, Ordering::AcqRel);
        self.tell();
    }

    /// Whether somebody waits while connections are what there is too little of: an idle one is
    /// then closed rather than kept, since it may be of another worker or to another backend.
    pub fn wants_connections(&self) -> bool {
        let bounded =
            self.limits.max_connections.is_some() || self.limits.backend_max_connections.is_some();
        bounded && self.waiting.load(Ordering::Relaxed) > 0
    }

    /// A place in the queue; `None` when it is full.
    pub fn queue(&self) -> Option<Waiting<'_>> {
        let queued = raise(&self.waiting, Some(self.limits.queue)).then(|| Waiting(self));
        // Either whoever gives room back sees that somebody waits, or this one, who looks once
        // more before it waits, sees the room: both write first, fence, and then read.
        fence(Ordering::SeqCst);
        queued
    }

    fn tell(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.room.notify_one();
        }
    }
}

/// Someone who waits for room.
#[derive(Debug)]
pub struct Waiting<'g>(&'g Gate);

impl Waiting<'_> {
    /// Ends when there may be room.
    pub async fn room(&self) {
        self.0.room.notified().await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        // The room that it was told of may be for the next one.
        self.0.tell();
    }
}

/// Adds one, unless that would be more than `limit`.
fn raise(count: &AtomicU32, limit: Option<u32>) -> bool {
    let raised = |count: u32| limit.is_none_or(|limit| count < limit).then(|| count + 1);
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, raised).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn gate(max_requests: u32, of_backend: u32, queue: u32) -> Gate {
        Gate::new(&Limits {
            max_connections: Some(1),
            max_requests: Some(max_requests),
            backend_max_connections: None,
            backend_max_requests: Some(of_backend),
            queue,
            queue_timeout: Duration::from_secs(1),
        })
    }

    #[test]
    fn neither_a_backend_nor_the_cluster_has_more_than_its_limit() {
        let (gate, a, b) = (gate(3, 2, 0), Load::default(), Load::default());
        assert!(gate.begin(&a) && gate.begin(&a) && !gate.begin(&a));
        assert!(gate.begin(&b) && !gate.begin(&b) && !gate.has_room());
        assert!(gate.is_full(&a) && !gate.is_full(&b));
        a.end(true);
        gate.end();
        assert!(gate.has_room() && gate.begin(&b));
    }

    #[tokio::test]
    async fn who_waits_is_told_of_room() {
        let (gate, load) = (gate(1, 1, 1), Load::default());
        assert!(gate.begin(&load));
        let waiting = gate.queue().unwrap();
        assert!(gate.queue().is_none());
        load.end(true);
        gate.end();
        waiting.room().await;
        drop(waiting);
        assert!(gate.queue().is_some());
    }

    #[test]
    fn connections_are_bounded_too() {
        let (gate, of_backend) = (gate(9, 9, 1), AtomicU32::new(0));
        assert!(gate.may_connect(&of_backend) && gate.connect(&of_backend));
        assert!(!gate.may_connect(&of_backend) && !gate.connect(&of_backend));
        assert!(!gate.wants_connections());
        let waiting = gate.queue();
        assert!(gate.wants_connections());
        drop(waiting);
        gate.disconnect();
        assert!(gate.connect(&AtomicU32::new(0)));
    }
}
