//! Leases of apps.

use std::sync::Arc;

use futures_util::stream::{self, Stream};
use outrigger_proto::v1;
use tonic::{Status, Streaming};

use super::Control;
use super::caller::Caller;

/// The leases that are open.
#[derive(Debug, Default)]
pub(super) struct Leases {}

pub(super) async fn open(
    _: &Arc<Control>,
    _: &Caller,
    _: Streaming<v1::OpenLeaseRequest>,
) -> Result<impl Stream<Item = Result<v1::OpenLeaseResponse, Status>> + Send + use<>, Status> {
    Err::<stream::Empty<_>, _>(Status::unimplemented("to come"))
}
