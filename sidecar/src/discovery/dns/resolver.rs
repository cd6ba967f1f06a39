//! One question to the nameservers, answered in full or not at all.
//!
//! Asked through hickory's pools of nameservers rather than its `Resolver`: that follows a CNAME
//! at the owner of SRV records to the wrong question, and hides how long a "no" is valid.
//! Aliases, search domains, and what counts as an answer, are decided here.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::config::NameServerConfig;
use hickory_resolver::net::{self, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf;

use super::nameservers::Nameservers;
use crate::config;

/// Longest chain of aliases that is followed.
const MAX_ALIASES: usize = 8;
/// A "no" without the SOA record that says how long it holds is asked again this soon.
const NO_SOA_TTL: u32 = 1;

/// Why a question has no answer. None of these says that a name has no records.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DnsError {
    #[error("`{0}` is not a DNS name")]
    Name(String),
    #[error("the system's resolvers cannot be read: {0}")]
    System(String),
    #[error("no answer for {question} within {timeout:?}")]
    Timeout { question: String, timeout: Duration },
    #[error("{question}: {error}")]
    Failed { question: String, error: String },
    #[error("{question}: more than {MAX_ALIASES} aliases")]
    Aliases { question: String },
}

/// What the nameservers say.
#[derive(Debug)]
pub(super) enum Answer {
    Records {
        /// Of the type that was asked for, whatever aliases led to them.
        records: Vec<Record>,
        /// What came with them.
        additional: Vec<Record>,
        /// The least of the records and the aliases, in seconds.
        ttl: u32,
    },
    /// There are none (NXDOMAIN or NODATA), for so long (RFC 2308, section 5).
    None { ttl: u32 },
}

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

/// What one nameserver has answered, or why that is no answer; `ttl` is that of the way so far.
fn read_answer(
    answer: Result<DnsResponse, NetError>,
    query: &Query,
    ttl: u32,
) -> Result<Reading, String> {
    let response = match answer {
        Ok(response) => response,
        Err(error) => return no_records(error, query, ttl),
    };
    match read(&response.answers, query, ttl) {
        Found::Records { records, ttl } => {
            let additional = response.into_message().additionals;
            Ok(Reading::Answer(Answer::Records { records, additional, ttl }))
        }
        Found::Alias { to, ttl } => Ok(Reading::Alias { to, ttl }),
        Found::Nothing if response.response_code == ResponseCode::NXDomain => {
            Ok(Reading::Answer(Answer::None { ttl: ttl.min(NO_SOA_TTL) }))
        }
        Found::Nothing => Err("the answer has no such record".into()),
    }
}

/// Sorts a "no" from a failure.
fn no_records(error: NetError, query: &Query, ttl: u32) -> Result<Reading, String> {
    match error {
        // Without a word on who is asked instead: that is a referral, not a "no".
        NetError::Dns(net::DnsError::NoRecordsFound(NoRecords {
            ns: None,
            query: answered,
            negative_ttl,
            ..
        })) if *answered == *query => {
            Ok(Reading::Answer(Answer::None { ttl: ttl.min(negative_ttl.unwrap_or(NO_SOA_TTL)) }))
        }
        error => Err(error.to_string()),
    }
}

#[derive(Debug)]
enum Reading {
    Answer(Answer),
    Alias { to: Name, ttl: u32 },
}

#[derive(Debug, PartialEq)]
enum Found {
    Records { records: Vec<Record>, ttl: u32 },
    Alias { to: Name, ttl: u32 },
    Nothing,
}

/// Finds the records that the name asked for leads to among the answers; `ttl` is that of the way so far.
fn read(answers: &[Record], query: &Query, mut ttl: u32) -> Found {
    let (mut name, kind) = (query.name().clone(), query.query_type());
    for followed in 0..=MAX_ALIASES {
        let of_kind = |record: &&Record| record.name == name && record.record_type() == kind;
        let records: Vec<Record> = answers.iter().filter(of_kind).cloned().collect();
        if let Some(least) = records.iter().map(|record| record.ttl).min() {
            return Found::Records { records, ttl: ttl.min(least) };
        }
        let alias = answers.iter().find_map(|record| match &record.data {
            RData::CNAME(to) if record.name == name => Some((to.0.clone(), record.ttl)),
            _ => None,
        });
        match alias {
            Some((to, alias_ttl)) => (name, ttl) = (to, ttl.min(alias_ttl)),
            None if followed > 0 => return Found::Alias { to: name, ttl },
            None => return Found::Nothing,
        }
    }
    // A loop: asking for its next name runs into the bound on questions.
    Found::Alias { to: name, ttl }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::rdata::{A, CNAME};

    fn name(text: &str) -> Name {
        fully_qualified(text).unwrap()
    }

    fn address(owner: &str, last: u8, ttl: u32) -> Record {
        Record::from_rdata(name(owner), ttl, RData::A(A::new(10, 0, 0, last)))
    }

    fn alias(owner: &str, to: &str, ttl: u32) -> Record {
        Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(to))))
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

    #[test]
    fn aliases_in_an_answer_are_followed_with_the_least_ttl() {
        let answers = [
            address("c.test", 1, 30),
            alias("A.test", "b.test", 20),
            alias("b.test", "c.test", 60),
            address("c.test", 2, 25),
            address("other.test", 3, 1),
        ];
        let Found::Records { records, ttl } =
            read(&answers, &Query::query(name("a.test"), RecordType::A), 90)
        else {
            panic!("no records");
        };
        assert_eq!((records.len(), ttl), (2, 20));
    }

    #[test]
    fn an_alias_without_its_target_is_asked_about() {
        let answers = [alias("a.test", "b.test", 20)];
        let expected = Found::Alias { to: name("b.test"), ttl: 20 };
        assert_eq!(read(&answers, &Query::query(name("a.test"), RecordType::SRV), 60), expected);
        assert_eq!(
            read(&answers, &Query::query(name("x.test"), RecordType::SRV), 60),
            Found::Nothing
        );
    }

    #[test]
    fn a_loop_ends() {
        let answers = [alias("a.test", "b.test", 20), alias("b.test", "a.test", 20)];
        let read = read(&answers, &Query::query(name("a.test"), RecordType::A), 60);
        assert!(matches!(read, Found::Alias { .. }));
    }
}
