//! Endpoints: what discovery reports, as plain data.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use http::HeaderValue;

use crate::net::Address;

/// Weights are kept in 256ths, so that a share of a small weight does not become 0.
pub const WEIGHT_ONE: u32 = 256;

/// Endpoints of one cluster; more are left out with a warning.
pub const MAX_ENDPOINTS: usize = 5_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Address,
    /// The name it was found under, without a trailing dot: an SRV target, or the name of a
    /// `dns` source. `None` for an endpoint that was given by its address.
    pub target: Option<Arc<str>>,
    /// The machine that it runs on, where the source has names for them.
    pub node: Option<Arc<str>>,
    /// In 256ths ([`WEIGHT_ONE`]); 0 only where the source says 0.
    pub weight: u32,
    /// The tier: the lowest number with an eligible backend takes all traffic.
    pub priority: u16,
    pub reported: Reported,
}

/// What the source itself says of an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reported {
    /// It may be used.
    #[default]
    Passing,
    /// It must not be used, and is still there.
    Critical,
    /// Somebody works on it: it is to drain.
    Maintenance,
}

impl Endpoint {
    /// An endpoint of which nothing but its address is known.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            target: None,
            node: None,
            weight: WEIGHT_ONE,
            priority: 0,
            reported: Reported::Passing,
        }
    }

    /// Whether its source has anything against using it; who drains is still good for its old work.
    pub(super) fn is_usable(&self) -> bool {
        self.reported != Reported::Critical
    }

    /// How a Host header names it: by its target and port, or else by its address.
    pub fn host(&self) -> HeaderValue {
        let text = match (&self.address, &self.target) {
            // The port is left out where HTTP's default says it (RFC 9110, section 4.2.1).
            (Address::Tcp(address), Some(target)) if address.port() == 80 => target.to_string(),
            (Address::Tcp(address), Some(target)) => format!("{target}:{}", address.port()),
            (Address::Tcp(address), None) => address.to_string(),
            (Address::Unix(_), _) => "localhost".into(),
        };
        // Targets that discovery lets pass have the letters of host names only.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("localhost"))
    }

    /// One endpoint per address, in the order of addresses, so that two answers that differ in
    /// order only are equal. Of several in one tier the weights add up; of several tiers the
    /// first counts. The second value says how many were left out above [`MAX_ENDPOINTS`].
    pub(super) fn merge(endpoints: Vec<Self>) -> (BTreeMap<Address, Self>, usize) {
        let mut merged: BTreeMap<Address, Self> = BTreeMap::new();
        let mut left_out = 0;
        for endpoint in endpoints {
            let full = merged.len() >= MAX_ENDPOINTS;
            match merged.entry(endpoint.address.clone()) {
                Entry::Vacant(_) if full => left_out += 1,
                Entry::Vacant(slot) => drop(slot.insert(endpoint)),
                Entry::Occupied(mut slot) => slot.get_mut().absorb(endpoint),
            }
        }
        (merged, left_out)
    }

    fn absorb(&mut self, other: Self) {
        if other.priority < self.priority {
            *self = other;
        } else if other.priority == self.priority {
            self.weight = self.weight.saturating_add(other.weight);
            // Any rule would do that does not depend on the order of the answer.
            self.target = self.target.take().min(other.target);
            self.node = self.node.take().min(other.node);
            self.reported = self.reported.max(other.reported);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, target: &str, weight: u32, priority: u16) -> Endpoint {
        let address = address.parse().unwrap();
        Endpoint { target: Some(target.into()), weight, priority, ..Endpoint::new(address) }
    }

    #[test]
    fn two_records_for_one_address_are_one_endpoint() {
        let a = endpoint("10.0.0.1:80", "b", 10, 1);
        let b = endpoint("10.0.0.1:80", "a", 5, 1);
        let spare = endpoint("10.0.0.1:80", "c", 100, 2);
        let expected = endpoint("10.0.0.1:80", "a", 15, 1);
        for order in [[&a, &b, &spare], [&spare, &b, &a], [&b, &spare, &a]] {
            let (merged, _) = Endpoint::merge(order.into_iter().cloned().collect());
            assert_eq!(merged.into_values().collect::<Vec<_>>(), std::slice::from_ref(&expected));
        }
    }

    #[test]
    fn there_is_a_bound() {
        let many = (0..MAX_ENDPOINTS + 3)
            .map(|i| endpoint(&format!("10.0.{}.{}:80", i / 256, i % 256), "t", 1, 0))
            .collect();
        let (merged, left_out) = Endpoint::merge(many);
        assert_eq!((merged.len(), left_out), (MAX_ENDPOINTS, 3));
    }
}
