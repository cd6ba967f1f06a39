//! How much work a cluster takes at a time, and who waits for room.

use std::sync::atomic::{AtomicU32, Ordering, fence};

use tokio::sync::futures::Notified;
use tokio::sync::{Mutex, MutexGuard, Notify};

use super::load::Load;
use crate::config::Limits;

/// Counts what is bounded, for all workers. A cluster without bounds has none.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    requests: AtomicU32,
    connections: AtomicU32,
    waiting: AtomicU32,
    /// Belongs to whoever has waited for the longest: nobody behind it looks for room, so that those
    /// who wait are served in order and do not wake each other.
    turn: Mutex<()>,
    room: Notify,
    /// For those who wait beside the queue: see [`Waiting::turn`].
    any_room: Notify,
}

impl Gate {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            requests: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            turn: Mutex::new(()),
            room: Notify::new(),
            any_room: Notify::new(),
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
        bounded && self.is_awaited()
    }

    /// Whether somebody waits.
    pub fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// A place in the queue; `None` when it is full.
    pub fn queue(&self) -> Option<Waiting<'_>> {
        let joined = raise(&self.waiting, Some(self.limits.queue));
        let queued = joined.then(|| Waiting { gate: self, turn: None });
        // Either whoever gives room back sees that somebody waits, or this one, who looks once
        // more before it waits, sees the room: both write first, fence, and then read.
        fence(Ordering::SeqCst);
        queued
    }

    fn tell(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.room.notify_one();
            self.any_room.notify_waiters();
        }
    }
}

/// Someone who waits for room.
#[derive(Debug)]
pub struct Waiting<'g> {
    gate: &'g Gate,
    turn: Option<MutexGuard<'g, ()>>,
}

impl<'g> Waiting<'g> {
    /// Ends when nobody who waits was here before. Whoever may go to one backend only does without:
    /// in its turn it would hold up all those who may go elsewhere.
    pub async fn turn(&mut self) {
        self.turn = Some(self.gate.turn.lock().await);
    }

    /// Ends when there may be more room than when it was asked for.
    pub fn room(&self) -> Notified<'g> {
        match self.turn {
            // Told of everything since its turn began, even while it looked.
            Some(_) => self.gate.room.notified(),
            None => self.gate.any_room.notified(),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.waiting.fetch_sub(1, Ordering::AcqRel);
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
        let mut waiting = gate.queue().unwrap();
        assert!(gate.queue().is_none());
        waiting.turn().await;
        let room = waiting.room();
        load.end(true);
        gate.end();
        room.await;
        drop(waiting);
        assert!(gate.queue().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_served_in_order_but_for_those_who_may_go_to_one_backend_only() {
        let (gate, load) = (gate(1, 1, 3), Load::default());
        assert!(gate.begin(&load));
        let [mut first, mut second, bound] = [(); 3].map(|()| gate.queue().unwrap());
        first.turn().await;
        let soon = Duration::from_millis(1);
        assert!(tokio::time::timeout(soon, second.turn()).await.is_err());
        let told = bound.room();
        load.end(true);
        gate.end();
        first.room().await;
        told.await;
        // The room is for the first, and then nobody is before the second.
        assert!(tokio::time::timeout(soon, second.turn()).await.is_err());
        drop(first);
        second.turn().await;
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
