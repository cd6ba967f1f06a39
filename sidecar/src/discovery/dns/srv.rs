//! From SRV records to endpoints (RFC 2782).

use std::net::IpAddr;
use std::sync::Arc;

use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record};

use super::answer::DnsError;
use crate::cluster::{Endpoint, MAX_ENDPOINTS, WEIGHT_ONE};
use crate::net::Address;

/// Whether an answer is the lone target `.`.
pub(super) fn says_no_service(answer: &[Record]) -> bool {
    let is_root = |record: &Record| matches!(&record.data, RData::SRV(srv) if srv.target.is_root());
    matches!(answer, [only] if is_root(only))
}

/// The usable records of an answer. A lone target `.` says that the service is decidedly not
/// there; beside others it says nothing, and neither does port 0.
pub(super) fn records(answer: &[Record]) -> Vec<SRV> {
    let mut records: Vec<SRV> = answer
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) if !srv.target.is_root() && srv.port != 0 => Some(srv.clone()),
            _ => None,
        })
        .collect();
    // More could not all be used; without a fixed order each answer would use others.
    records.sort_by(|a, b| {
        let key = |srv: &SRV| (srv.priority, srv.target.to_lowercase(), srv.port, srv.weight);
        key(a).cmp(&key(b))
    });
    if records.len() > MAX_ENDPOINTS {
        tracing::warn!(records = records.len(), used = MAX_ENDPOINTS, "too many SRV records");
        records.truncate(MAX_ENDPOINTS);
    }
    records
}

/// The targets, each once.
pub(super) fn targets(records: &[SRV]) -> Vec<Name> {
    let mut targets: Vec<Name> = records.iter().map(|srv| srv.target.to_lowercase()).collect();
    targets.sort();
    targets.dedup();
    targets
}

/// One endpoint per address of each target, which share the weight of the record, so that a
/// target gets what its record says however many addresses it has. Targets without addresses
/// are left out. Only when of no target anything is known is there no answer.
pub(super) fn endpoints(
    records: &[SRV],
    addresses: impl Fn(&Name) -> Result<Vec<IpAddr>, DnsError>,
) -> Result<Vec<Endpoint>, DnsError> {
    let mut endpoints = Vec::new();
    let mut failed = None;
    for srv in records {
        let ips = match addresses(&srv.target) {
            Ok(ips) => ips,
            Err(error) => {
                tracing::debug!(target = %srv.target, %error, "an SRV target has no address");
                failed = failed.or(Some(error));
                continue;
            }
        };
        let target = host_name(&srv.target);
        let share = share(srv.weight, ips.len());
        endpoints.extend(ips.into_iter().map(|ip| Endpoint {
            target: target.clone(),
            weight: share,
            priority: srv.priority,
            ..Endpoint::new(Address::Tcp((ip, srv.port).into()))
        }));
    }
    match failed {
        Some(error) if endpoints.is_empty() => Err(error),
        _ => Ok(endpoints),
    }
}

/// The name as a Host header has it: lower case, without the final dot. `None` for a name that
/// is not made of letters, digits, `-` and `_`, which no server would know as its own.
pub(super) fn host_name(name: &Name) -> Option<Arc<str>> {
    let text = name.to_lowercase().to_ascii();
    let text = text.trim_end_matches('.');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!text.is_empty() && text.bytes().all(plain)).then(|| text.into())
}

/// A share is never rounded to 0, which would mean something else.
fn share(weight: u16, addresses: usize) -> u32 {
    let whole = u32::from(weight) * WEIGHT_ONE;
    let addresses = u32::try_from(addresses).unwrap_or(u32::MAX).max(1);
    if weight == 0 { 0 } else { (whole / addresses).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::dns::resolver::fully_qualified;

    fn name(text: &str) -> Name {
        fully_qualified(text).unwrap()
    }

    fn record(priority: u16, weight: u16, port: u16, target: &str) -> Record {
        let srv = SRV::new(priority, weight, port, name(target));
        Record::from_rdata(name("_api._tcp.test"), 60, RData::SRV(srv))
    }

    /// `one` has one address, `two` two, `six` one of each family, `gone` none; `lost` failed.
    fn addresses(target: &Name) -> Result<Vec<IpAddr>, DnsError> {
        let ips: &[&str] = match target.to_lowercase().to_ascii().as_str() {
            "one." => &["10.0.0.1"],
            "two." => &["10.0.0.2", "10.0.0.3"],
            "six." => &["10.0.0.6", "2001:db8::6"],
            "gone." => &[],
            _ => return Err(DnsError::Name("lost".into())),
        };
        Ok(ips.iter().map(|ip| ip.parse().unwrap()).collect())
    }

    fn found(answer: &[Record]) -> Vec<(String, f64, u16)> {
        let endpoints = endpoints(&records(answer), addresses).unwrap();
        let plain = |e: Endpoint| (e.address.to_string(), f64::from(e.weight) / 256.0, e.priority);
        endpoints.into_iter().map(plain).collect()
    }

    #[test]
    fn weights_are_kept_whole_and_shared_by_the_addresses_of_a_target() {
        let answer =
            [record(0, 65535, 80, "one"), record(1, 3, 81, "TWO"), record(1, 0, 82, "six")];
        let expected = [
            ("10.0.0.1:80".into(), 65535.0, 0),
            ("10.0.0.6:82".into(), 0.0, 1),
            ("[2001:db8::6]:82".into(), 0.0, 1),
            ("10.0.0.2:81".into(), 1.5, 1),
            ("10.0.0.3:81".into(), 1.5, 1),
        ];
        assert_eq!(found(&answer), expected);
    }

    #[test]
    fn a_share_of_a_small_weight_is_not_0() {
        assert_eq!(share(1, 1000), 1);
        assert_eq!(share(0, 1), 0);
    }

    #[test]
    fn what_cannot_be_used_is_left_out() {
        let answer = [
            record(0, 1, 0, "one"),
            record(0, 1, 80, "."),
            record(0, 1, 80, "gone"),
            record(0, 1, 80, "lost"),
            record(0, 1, 81, "one"),
        ];
        assert_eq!(found(&answer), [("10.0.0.1:81".into(), 1.0, 0)]);
    }

    #[test]
    fn no_service_is_an_answer_and_no_knowledge_is_not() {
        assert_eq!(found(&[record(0, 0, 0, ".")]), []);
        assert_eq!(found(&[record(0, 1, 80, "gone")]), []);
        assert!(endpoints(&records(&[record(0, 1, 80, "lost")]), addresses).is_err());
        let mixed = [record(0, 1, 80, "lost"), record(0, 1, 80, "gone")];
        assert!(endpoints(&records(&mixed), addresses).is_err());
    }

    #[test]
    fn targets_are_asked_for_once() {
        let answer = [record(0, 1, 80, "One"), record(0, 1, 81, "one"), record(5, 1, 80, "two")];
        assert_eq!(targets(&records(&answer)), [name("one"), name("two")]);
    }
}
