//! One question to the nameservers, answered in full or not at all.
//!
//! Asked through hickory's pools of nameservers rather than its `Resolver`: that follows a CNAME
//! at the owner of SRV records to the wrong question, and hides how long a "no" is valid.
//! Aliases, search domains, and what counts as an answer (`answer.rs`), are decided here.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::config::NameServerConfig;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf;

use super::answer::{Answer, DnsError, MAX_ALIASES, Reading, read_answer};
use super::nameservers::Nameservers;
use crate::config;

/// The nameservers, and the domains that names are looked for in.
pub(crate) struct Resolver {
    nameservers: Nameservers,
    search: Vec<Name>,
    /// A name with so many dots is taken as it stands before it is looked for in `search`.
    ndots: usize,
    /// For a whole question, whoever is asked.
    timeout: Duration,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("search", &self.search).finish_non_exhaustive()
    }
}

impl Resolver {
    pub(crate) fn new(config: &config::Dns) -> Result<Self, DnsError> {
        let system = |e: NetError| DnsError::System(e.to_string());
        let mut addresses = config.nameservers.clone();
        let (mut search, mut ndots) = (Vec::new(), 1);
        if addresses.is_empty() {
            let (servers, options) = system_conf::read_system_conf().map_err(system)?;
            addresses = servers.name_servers().iter().flat_map(listens).collect();
            (search, ndots) = (servers.search().to_vec(), options.ndots);
        }
        if let Some(domains) = &config.search {
            let domains = domains.iter().map(|domain| fully_qualified(domain));
            search = domains.collect::<Result<_, _>>()?;
        }
        let nameservers =
            Nameservers::new(&addresses, config.timeout, config.tcp).map_err(system)?;
        // The last nameserver is asked before the first one's time is over.
        let timeout = if addresses.len() > 1 { config.timeout * 2 } else { config.timeout };
        Ok(Self { nameservers, search, ndots, timeout })
    }

    /// What a configured name may stand for, in the order in which it is tried (resolv.conf(5)).
    pub(super) fn candidates(&self, text: &str) -> Result<Vec<Name>, DnsError> {
        let name = fully_qualified(text)?;
        if text.ends_with('.') {
            return Ok(vec![name]);
        }
        let within = |domain: &Name| name.clone().append_domain(domain).ok();
        let mut candidates: Vec<Name> = self.search.iter().filter_map(within).collect();
        let dots = text.matches('.').count();
        let place = if dots >= self.ndots { 0 } else { candidates.len() };
        candidates.insert(place, name);
        Ok(candidates)
    }

    /// Asks for the records of a type, following aliases.
    pub(super) async fn ask(&self, name: Name, kind: RecordType) -> Result<Answer, DnsError> {
        let question = format!("{name} {kind}");
        let following = self.follow(name, kind, &question);
        tokio::time::timeout(self.timeout, following)
            .await
            .unwrap_or(Err(DnsError::Timeout { question: question.clone(), timeout: self.timeout }))
    }

    async fn follow(
        &self,
        mut name: Name,
        kind: RecordType,
        question: &str,
    ) -> Result<Answer, DnsError> {
        let mut ttl = u32::MAX;
        for _ in 0..=MAX_ALIASES {
            let query = Query::query(name, kind);
            let answer = self.nameservers.ask(&query, |answer| read_answer(answer, &query, ttl));
            let failed = |error| DnsError::Failed { question: question.into(), error };
            match answer.await.map_err(failed)? {
                Reading::Answer(answer) => return Ok(answer),
                // A server that does not follow the alias itself is asked about its target.
                Reading::Alias { to, ttl: so_far } => (name, ttl) = (to, so_far),
            }
        }
        Err(DnsError::Aliases { question: question.into() })
    }
}

/// Where a nameserver of the system listens.
fn listens(server: &NameServerConfig) -> Option<SocketAddr> {
    server.connections.first().map(|connection| SocketAddr::new(server.ip, connection.port))
}

/// A name, taken as it stands.
pub(super) fn fully_qualified(text: &str) -> Result<Name, DnsError> {
    let mut name = Name::from_ascii(text).map_err(|_| DnsError::Name(text.into()))?;
    name.set_fqdn(true);
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        fully_qualified(text).unwrap()
    }

    fn candidates(ndots: usize, text: &str) -> Vec<String> {
        let nameservers = Nameservers::new(&[], Duration::from_secs(1), false).unwrap();
        let search = vec![name("near.test"), name("far.test")];
        let resolver = Resolver { nameservers, search, ndots, timeout: Duration::from_secs(1) };
        let candidates = resolver.candidates(text).unwrap();
        candidates.iter().map(|name| name.to_ascii()).collect()
    }

    #[test]
    fn a_name_with_enough_dots_is_first_tried_as_it_stands() {
        let within = |name: &str| [format!("{name}.near.test."), format!("{name}.far.test.")];
        let [near, far] = within("api");
        assert_eq!(candidates(1, "api"), [near, far, "api.".into()]);
        let [near, far] = within("api.internal");
        assert_eq!(candidates(1, "api.internal"), ["api.internal.".into(), near, far]);
        let [near, far] = within("_api._tcp");
        assert_eq!(candidates(5, "_api._tcp"), [near, far, "_api._tcp.".into()]);
        assert_eq!(candidates(5, "api."), ["api."]);
    }
}
