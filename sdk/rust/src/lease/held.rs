//! What a lease holds: its id, and the orders that were given through it.

use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, stream};
use outrigger_proto::v1::{
    DrainRequest, SetAffinityRequest, SetWeightRequest, drain_request, set_affinity_request,
    set_weight_request,
};
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::time::sleep;

use crate::Client;
use crate::backoff::Backoff;
use crate::client::within;
use crate::error::Error;

use super::line::{Ending, Line};

/// Orders that are given again at a time, and before the app's own have their turn: the sidecar takes a
/// few thousand a second.
const AT_A_TIME: usize = 64;
const IN_A_TURN: usize = 256;

/// There is one order of a kind for a backend, or a key: a factor takes the place of a weight.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    kind: Kind,
    cluster: String,
    /// A backend's name as the sidecar has it, or a key.
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Weight,
    Drain,
    Pin,
}

/// An order as it was given.
#[derive(Debug, Clone)]
pub(super) enum Order {
    Weight(SetWeightRequest),
    Drain(DrainRequest),
    Pin(SetAffinityRequest),
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) client: Client,
    owner: String,
    /// Orders are given with this read, and given again with it written: so none is missed between two
    /// lives of the sidecar.
    id: RwLock<Result<String, Error>>,
    /// No more than the sidecar has room for: what it has not accepted is not here.
    orders: Mutex<HashMap<Slot, Order>>,
}

impl Slot {
    pub(super) fn new(kind: Kind, cluster: &str, name: &str) -> Self {
        Self { kind, cluster: cluster.into(), name: name.into() }
    }
}

impl Held {
    pub(super) fn new(client: Client, owner: &str, line: &Line) -> Self {
        let id = RwLock::new(Ok(line.id.clone()));
        Self { client, owner: owner.into(), id, orders: Mutex::default() }
    }

    /// The id to give an order under, for as long as it is held.
    pub(super) async fn id(&self) -> Result<RwLockReadGuard<'_, String>, Error> {
        within(self.client.deadline(), async {
            let id = self.id.read().await;
            RwLockReadGuard::try_map(id, |id| id.as_ref().ok()).map_err(|id| match &*id {
                Err(error) => error.clone(),
                Ok(_) => lost_lease(),
            })
        })
        .await
    }

    pub(super) fn remember(&self, slot: Slot, order: Order) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).insert(slot, order);
    }

    pub(super) fn forget(&self, slot: &Slot) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).remove(slot);
    }

    fn recall(&self, slot: &Slot) -> Option<Order> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).get(slot).cloned()
    }

    fn slots(&self) -> Vec<Slot> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Has the lease open until the app ends it.
    pub(super) async fn keep(self: Arc<Self>, mut line: Line, ending: Ending) {
        loop {
            line.ended().await;
            if ending.has_come() {
                return;
            }
            *self.id.write().await = Err(lost_lease());
            let opened = tokio::select! {
                opened = self.open_again(&ending) => opened,
                () = ending.clone() => return,
            };
            line = opened;
            self.restore(&mut line).await;
        }
    }

    async fn open_again(&self, ending: &Ending) -> Line {
        let mut backoff = Backoff::default();
        loop {
            // Also before the first time: a sidecar may end every lease as soon as it begins.
            sleep(backoff.pause()).await;
            match Line::open(&self.client, &self.owner, ending.clone()).await {
                Ok(line) => return line,
                // Why orders fail meanwhile.
                Err(error) => *self.id.write().await = Err(error),
            }
        }
    }

    /// Gives all orders again, and those that fail until none is left, or the lease has ended.
    async fn restore(&self, line: &mut Line) {
        let lease = line.id.clone();
        let mut backoff = Backoff::default();
        let (mut due, mut failed) = (self.slots(), Vec::new());
        loop {
            let later = due.split_off(due.len().min(IN_A_TURN));
            tokio::select! {
                missing = self.give_again(&lease, due) => failed.extend(missing),
                () = line.ended() => return,
            }
            due = later;
            if due.is_empty() && failed.is_empty() {
                return;
            }
            if due.is_empty() {
                tokio::select! {
                    () = sleep(backoff.pause()) => due = std::mem::take(&mut failed),
                    () = line.ended() => return,
                }
            }
        }
    }

    /// Those that could not be given.
    async fn give_again(&self, lease: &str, slots: Vec<Slot>) -> Vec<Slot> {
        let mut id = self.id.write().await;
        let given = stream::iter(slots).map(|slot| self.give_one_again(lease, slot));
        let missing = given.buffer_unordered(AT_A_TIME).filter_map(ready).collect().await;
        *id = Ok(lease.to_owned());
        missing
    }

    /// The slot, if it has an order that could not be given.
    async fn give_one_again(&self, lease: &str, slot: Slot) -> Option<Slot> {
        let given = self.recall(&slot)?.give(&self.client, lease).await;
        given.err().map(|_| slot)
    }
}

impl Order {
    async fn give(self, client: &Client, lease: &str) -> Result<(), Error> {
        let lease = lease.to_owned();
        match self {
            Self::Weight(request) => {
                let lifetime = Some(set_weight_request::Lifetime::LeaseId(lease));
                client.order_weight(SetWeightRequest { lifetime, ..request }).await.map(drop)
            }
            Self::Drain(request) => {
                let lifetime = Some(drain_request::Lifetime::LeaseId(lease));
                client.order_drain(DrainRequest { lifetime, ..request }).await.map(drop)
            }
            Self::Pin(request) => {
                let lifetime = Some(set_affinity_request::Lifetime::LeaseId(lease));
                client.order_pin(SetAffinityRequest { lifetime, ..request }).await.map(drop)
            }
        }
    }
}

fn lost_lease() -> Error {
    Error::lost("the lease is being opened again")
}

/// That the sidecar does not know the lease means that it is another sidecar now.
pub(super) fn lost(error: Error) -> Error {
    match error {
        Error::NotFound { kind, .. } if kind == "lease" => lost_lease(),
        error => error,
    }
}
