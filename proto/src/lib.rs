//! The messages and services of Outrigger's control API, generated from `outrigger/v1/control.proto`.
//! No logic: apps use `outrigger-sdk`.

/// Version 1.
#[allow(missing_debug_implementations, unused_qualifications, clippy::all, rustdoc::all)]
pub mod v1 {
    tonic::include_proto!("outrigger.v1");

    /// The description of all of it, a `google.protobuf.FileDescriptorSet`, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
