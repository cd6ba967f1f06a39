//! The app's side of Outrigger.
#![doc = include_str!("../README.md")]

mod affinity;
mod answer;
mod backend;
mod backoff;
mod balancer;
mod client;
mod connect;
mod error;
mod lease;
mod order;
mod report;
mod watch;

pub use affinity::{AFFINITY_HEADER, AffinityInterceptor, affinity_header, proxy_header};
pub use answer::{Affinity, Drained, Event, Events, Explained, Explanation, Reason};
pub use backend::{Backend, Change, Cluster, Order, State};
pub use balancer::{BalancedChannel, Balancer, Pick};
pub use client::Client;
pub use connect::Builder;
pub use error::{Error, Violation};
pub use lease::Lease;
pub use report::Outcome;
pub use watch::View;
