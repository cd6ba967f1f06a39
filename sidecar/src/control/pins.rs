//! Pins of apps, and where keys lead.

use outrigger_proto::v1;
use tonic::Status;

use super::Control;
use super::caller::Caller;

pub(super) async fn set(
    _: &Control,
    _: &Caller,
    _: v1::SetAffinityRequest,
) -> Result<v1::SetAffinityResponse, Status> {
    Err(Status::unimplemented("to come"))
}

pub(super) async fn get(
    _: &Control,
    _: &Caller,
    _: v1::GetAffinityRequest,
) -> Result<v1::GetAffinityResponse, Status> {
    Err(Status::unimplemented("to come"))
}

pub(super) async fn clear(
    _: &Control,
    _: &Caller,
    _: v1::ClearAffinityRequest,
) -> Result<v1::ClearAffinityResponse, Status> {
    Err(Status::unimplemented("to come"))
}

pub(super) async fn explain(
    _: &Control,
    _: &Caller,
    _: v1::ExplainRequest,
) -> Result<v1::ExplainResponse, Status> {
    Err(Status::unimplemented("to come"))
}
