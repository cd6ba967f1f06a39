//! Leases: what orders hold for as long as the stream of one is open.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use outrigger_proto::v1::{OpenLeaseRequest, OpenLeaseResponse};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::caller::Caller;
use super::orders::owner_name;
use super::{Control, error};
use crate::cluster::{Cluster, Event, Lease, Owner};

/// Leases that may be open at a time.
const MAX_LEASES: usize = 4096;
/// How long a stream may take to say whose lease it is.
const FIRST: Duration = Duration::from_secs(10);

/// The leases that are open, by id.
#[derive(Debug, Default)]
pub(super) struct Leases {
    open: Mutex<HashMap<String, Owner>>,
    last: AtomicU64,
}

impl Leases {
    /// Whose orders end with the lease of this id.
    pub(super) fn owner(&self, id: &str) -> Result<Owner, Status> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(id).cloned().ok_or_else(|| error::not_found("lease", id))
    }

    /// Opens one of this owner; its id.
    fn add(&self, name: Arc<str>, caller: &Caller) -> Result<(String, Lease), Status> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_LEASES {
            let why = format!("{MAX_LEASES} leases are open, as many as may be");
            return Err(error::full("leases", why));
        }
        let id = random_id()?;
        let lease = Lease::new(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        open.insert(id.clone(), Owner::app(name, Some(lease.clone()), caller.shown()));
        Ok((id, lease))
    }

    fn remove(&self, id: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// Nobody guesses it: whoever knows it may give orders under it.
fn random_id() -> Result<String, Status> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| Status::internal(format!("no random bytes: {e}")))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// An open lease: dropped with its stream, however that ends.
struct Held {
    control: Arc<Control>,
    id: String,
    lease: Lease,
}

impl Held {
    /// Returns once nothing is to be seen of its orders any longer, so that whoever has closed the
    /// stream may rely on that when it ends.
    async fn end(self) {
        let control = Arc::clone(&self.control);
        drop(self);
        for cluster in &control.clusters {
            cluster.settled().await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.control.leases.remove(&self.id);
        // Before the clusters hear of it: an order that comes after that is refused.
        self.lease.end();
        for cluster in &self.control.clusters {
            tell(cluster, self.lease.number);
        }
    }
}

fn tell(cluster: &Cluster, lease: u64) {
    let events = cluster.events();
    let Err(TrySendError::Full(event)) = events.try_send(Event::LeaseEnded(lease)) else { return };
    // Without a runtime there is no cluster either that had to know.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move { events.send(event).await });
    }
}

/// Opens a lease that lives as long as the answer does.
pub(super) async fn open(
    control: &Arc<Control>,
    caller: &Caller,
    mut requests: Streaming<OpenLeaseRequest>,
) -> Result<impl Stream<Item = Result<OpenLeaseResponse, Status>> + Send + 'static, Status> {
    let late = |_| Status::deadline_exceeded(format!("nothing came within {FIRST:?}"));
    let first = timeout(FIRST, requests.message()).await.map_err(late)??;
    let owner = first.unwrap_or_default().owner;
    if owner.is_empty() {
        return Err(error::invalid("owner", "it is missing".into()));
    }
    let (id, lease) = control.leases.add(owner_name(&owner)?, caller)?;
    let held = Held { control: Arc::clone(control), id: id.clone(), lease };
    let opened = stream::iter([Ok(OpenLeaseResponse { lease_id: id })]);
    let until_it_ends = stream::once(async move {
        // Whatever else the app says, it is there still.
        while requests.message().await?.is_some() {}
        held.end().await;
        Ok(())
    });
    let nothing_more = until_it_ends.filter_map(|ended| async { ended.err().map(Err) });
    Ok(opened.chain(nothing_more))
}
