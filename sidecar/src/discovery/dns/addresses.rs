//! The addresses behind names, of both families, with what was learned before.
//!
//! SRV answers bring addresses of their targets along, but need not bring all: a target with an
//! A record there may have an AAAA record elsewhere. What is missing is asked for, a few at a
//! time, and remembered until it expires; where a question fails, the last answer still counts.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use futures_util::StreamExt;
use futures_util::stream;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::time::Instant;

use super::Ttls;
use super::answer::{Answer, DnsError};
use super::resolver::Resolver;

/// Questions under way at a time.
const CONCURRENT: usize = 32;
const FAMILIES: [RecordType; 2] = [RecordType::A, RecordType::AAAA];
/// A question that failed is asked again this soon, in seconds, while others were answered.
const RETRY: u32 = 5;

#[derive(Debug)]
pub(super) struct Addresses {
    ttls: Ttls,
    known: HashMap<(Name, RecordType), Known>,
}

/// The latest answer for one name and family.
#[derive(Debug, Default)]
struct Known {
    /// `None` until there was one.
    addresses: Option<Vec<IpAddr>>,
    /// The TTL of the answer; of no interest once `until` has passed.
    ttl: u32,
    until: Option<Instant>,
    /// Why it could not be asked for again.
    failed: Option<DnsError>,
}

impl Addresses {
    pub(super) fn new(ttls: Ttls) -> Self {
        Self { ttls, known: HashMap::new() }
    }

    /// Takes over the addresses of `targets` that came with an answer; the value is their least
    /// TTL.
    pub(super) fn take_glue(
        &mut self,
        targets: &[Name],
        additional: &[Record],
        now: Instant,
    ) -> u32 {
        let mut glue: HashMap<(Name, RecordType), (Vec<IpAddr>, u32)> = HashMap::new();
        for record in additional {
            if let Some(ip) = address(record) {
                let key = (record.name.to_lowercase(), record.record_type());
                let (addresses, ttl) = glue.entry(key).or_insert((Vec::new(), u32::MAX));
                addresses.push(ip);
                *ttl = record.ttl.min(*ttl);
            }
        }
        let mut least = u32::MAX;
        for target in targets {
            for family in FAMILIES {
                let key = (target.to_lowercase(), family);
                if let Some((addresses, ttl)) = glue.remove(&key) {
                    least = least.min(ttl);
                    self.learn(key, addresses, ttl, now);
                }
            }
        }
        least
    }

    /// Asks for what is not known of `names` or has expired, and forgets all other names. The
    /// value is the least TTL of the answers.
    pub(super) async fn refresh(
        &mut self,
        resolver: &Resolver,
        names: &[Name],
        now: Instant,
    ) -> u32 {
        let wanted: HashSet<(Name, RecordType)> = names
            .iter()
            .flat_map(|name| FAMILIES.map(|family| (name.to_lowercase(), family)))
            .collect();
        self.known.retain(|key, _| wanted.contains(key));
        let expired = |key: &(Name, RecordType)| {
            self.known.get(key).and_then(|known| known.until).is_none_or(|until| until <= now)
        };
        let questions: Vec<_> = wanted.into_iter().filter(expired).collect();
        let mut answers = stream::iter(questions)
            .map(async |(name, family)| {
                let answer = resolver.ask(name.clone(), family).await;
                ((name, family), answer)
            })
            .buffer_unordered(CONCURRENT);
        while let Some((key, answer)) = answers.next().await {
            match answer {
                Ok(Answer::Records { records, ttl, .. }) => {
                    let addresses = records.iter().filter_map(address).collect();
                    self.learn(key, addresses, ttl, now);
                }
                Ok(Answer::None { ttl }) => self.learn(key, Vec::new(), ttl, now),
                Err(error) => {
                    let known = self.known.entry(key).or_default();
                    (known.until, known.failed) = (None, Some(error));
                }
            }
        }
        drop(answers);
        self.settle(names, now)
    }

    /// All addresses of a name: none if it has none, an error if that is not known.
    pub(super) fn of(&self, name: &Name) -> Result<Vec<IpAddr>, DnsError> {
        let name = name.to_lowercase();
        let mut addresses = Vec::new();
        let mut failed = None;
        for family in FAMILIES {
            let known = self.known.get(&(name.clone(), family));
            if let Some(known) = known {
                addresses.extend(known.addresses.iter().flatten());
                failed = failed.or(known.failed.as_ref().filter(|_| known.addresses.is_none()));
            }
        }
        match failed {
            Some(error) if addresses.is_empty() => Err(error.clone()),
            _ => Ok(addresses),
        }
    }

    fn learn(&mut self, key: (Name, RecordType), addresses: Vec<IpAddr>, ttl: u32, now: Instant) {
        let until = Some(now + self.ttls.clamp(ttl));
        let known = Known { addresses: Some(addresses), ttl, until, failed: None };
        self.known.insert(key, known);
    }

    /// Decides how long the answers count. A family that a name does not have while it has the
    /// other is looked for again only after the longest time, or names of one family would cost
    /// a question with every answer.
    fn settle(&mut self, names: &[Name], now: Instant) -> u32 {
        let mut least = u32::MAX;
        for name in names {
            let name = name.to_lowercase();
            let has_any = FAMILIES.iter().any(|family| {
                let known = self.known.get(&(name.clone(), *family));
                known.is_some_and(|known| known.addresses.iter().flatten().next().is_some())
            });
            for family in FAMILIES {
                let Some(known) = self.known.get_mut(&(name.clone(), family)) else { continue };
                let absent = known.addresses.as_ref().is_some_and(Vec::is_empty);
                if absent && has_any {
                    known.until = known.until.map(|until| until.max(now + self.ttls.max));
                } else {
                    let failed = known.failed.is_some();
                    least = least.min(if failed { RETRY } else { known.ttl });
                }
            }
        }
        least
    }
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(ip) => Some(ip.0.into()),
        RData::AAAA(ip) => Some(ip.0.into()),
        _ => None,
    }
}
