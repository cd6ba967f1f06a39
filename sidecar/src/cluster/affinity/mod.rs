//! Affinity: the same key, the same backend.
//!
//! A cookie says by itself which backend it names: [`token`] is its text and [`keyring`] has the
//! secrets that sign it, so that every sidecar with the same secret understands it and none has
//! to remember anything. What cannot carry a token, the value of a header or a source address,
//! is remembered in [`Learned`], and what an app says itself in [`Pins`].
//!
//! A key only ever chooses among the backends that the cluster has: whoever forges or replays one
//! gains a backend that a request without it might have got as well.

pub mod keyring;
mod learned;
mod pins;
pub mod token;

pub use keyring::{BadSecret, Keyring, Tags};
pub use learned::Learned;
pub use pins::{MAX_KEY, MAX_PINS, Pin, Pins};
pub use token::{Invalid, Verified};
