//! HTTP/1.1 by hand: one pass over each head, no copy of a body, nothing allocated per request.
//!
//! From the bottom up: [`fields`] and [`head`] (what was read), [`target`] and [`framing`] (what
//! it means), [`decoder`] (where a body ends), [`defect`] (what is wrong with any of it), [`write`](mod@write)
//! (what leaves), [`relay`] and [`tunnel`] (bodies, and what comes after a switch of protocols).
//! On top of them [`serve`](mod@serve) is the life of a connection and [`exchange`] that of a request.

mod attempt;
pub mod decoder;
pub mod defect;
mod downstream;
mod exchange;
pub mod fields;
mod forward;
pub mod framing;
pub mod head;
mod hedge;
mod relay;
mod reply;
mod retry;
mod serve;
pub mod target;
mod tunnel;
mod upload;
mod write;

pub(in crate::proxy) use serve::serve;
