//! What apps have seen of backends themselves.

use outrigger_proto::v1;
use tonic::Status;

use super::Control;
use super::caller::Caller;

pub(super) async fn report(
    _: &Control,
    _: &Caller,
    _: v1::ReportOutcomeRequest,
) -> Result<v1::ReportOutcomeResponse, Status> {
    Err(Status::unimplemented("to come"))
}
