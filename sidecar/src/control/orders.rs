//! Orders of apps: weights and drains.

use outrigger_proto::v1;
use tonic::Status;

use super::Control;
use super::caller::Caller;

pub(super) async fn set_weight(
    _: &Control,
    _: &Caller,
    _: v1::SetWeightRequest,
) -> Result<v1::SetWeightResponse, Status> {
    Err(Status::unimplemented("to come"))
}

pub(super) async fn clear_weight(
    _: &Control,
    _: &Caller,
    _: v1::ClearWeightRequest,
) -> Result<v1::ClearWeightResponse, Status> {
    Err(Status::unimplemented("to come"))
}

pub(super) async fn drain(
    _: &Control,
    _: &Caller,
    _: v1::DrainRequest,
) -> Result<v1::DrainResponse, Status> {
    Err(Status::unimplemented("to come"))
}

pub(super) async fn resume(
    _: &Control,
    _: &Caller,
    _: v1::ResumeRequest,
) -> Result<v1::ResumeResponse, Status> {
    Err(Status::unimplemented("to come"))
}
