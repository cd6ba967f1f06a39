//! One question to the nameservers, answered in full or not at all.
//!
//! Asked through hickory's pool of nameservers rather than its `Resolver`: that follows a CNAME
//! at the owner of SRV records to the wrong question, and hides how long a "no" is valid.
//! Aliases, and what counts as an answer, are decided here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::DnsHandle;
use hickory_resolver::net::{self, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig, system_conf};

use crate::config;

/// Longest chain of aliases that is followed.
const MAX_ALIASES: usize = 8;
/// Answers of this size pass any network in one piece over UDP (DNS flag day 2020); larger ones
/// are asked for again over TCP.
const UDP_PAYLOAD: u16 = 1232;
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

/// The nameservers.
pub(crate) struct Resolver {
    pool: NameServerPool<TokioRuntimeProvider>,
    timeout: Duration,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Resolver {
    pub(crate) fn new(config: &config::Dns) -> Result<Self, DnsError> {
        let servers = match config.nameservers.as_slice() {
            [] => {
                let system = system_conf::read_system_conf();
                let (system, _) = system.map_err(|e| DnsError::System(e.to_string()))?;
                system.name_servers().to_vec()
            }
            given => given.iter().map(|address| nameserver(*address)).collect(),
        };
        let mut options = ResolverOpts::default();
        options.timeout = config.timeout;
        options.edns0 = true;
        options.edns_payload_len = UDP_PAYLOAD;
        // With one at a time a dead first server would use up the time of all.
        options.num_concurrent_reqs = 2;
        let tls = TlsConfig::new().map_err(|e| DnsError::System(e.to_string()))?;
        let context = Arc::new(PoolContext::new(options, tls));
        let pool = NameServerPool::from_config(servers, context, TokioRuntimeProvider::default());
        Ok(Self { pool, timeout: config.timeout })
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
            let response = match self.ask_once(&name, kind).await {
                Ok(response) => response,
                Err(error) => return no_records(error, ttl, question),
            };
            match read(&response.answers, name, kind, ttl) {
                Reading::Records { records, ttl } => {
                    let additional = response.into_message().additionals;
                    return Ok(Answer::Records { records, additional, ttl });
                }
                // A server that does not follow the alias itself is asked about its target.
                Reading::Alias { to, ttl: so_far } => (name, ttl) = (to, so_far),
                Reading::Nothing if response.response_code == ResponseCode::NXDomain => {
                    return Ok(Answer::None { ttl: ttl.min(NO_SOA_TTL) });
                }
                Reading::Nothing => {
                    let error = "the answer has no such record".into();
                    return Err(DnsError::Failed { question: question.into(), error });
                }
            }
        }
        Err(DnsError::Aliases { question: question.into() })
    }

    async fn ask_once(
        &self,
        name: &Name,
        kind: RecordType,
    ) -> Result<hickory_resolver::proto::op::DnsResponse, NetError> {
        let mut options = DnsRequestOptions::default();
        options.use_edns = true;
        options.edns_payload_len = UDP_PAYLOAD;
        let request = DnsRequest::from_query(Query::query(name.clone(), kind), options);
        self.pool.send(request).next().await.unwrap_or(Err(NetError::NoConnections))
    }
}

fn nameserver(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// A configured name, taken as it stands: no search list is applied.
pub(super) fn fully_qualified(text: &str) -> Result<Name, DnsError> {
    let mut name = Name::from_ascii(text).map_err(|_| DnsError::Name(text.into()))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Sorts a "no" from a failure.
fn no_records(error: NetError, ttl: u32, question: &str) -> Result<Answer, DnsError> {
    match error {
        // Without a word on who is asked instead: that is a referral, not a "no".
        NetError::Dns(net::DnsError::NoRecordsFound(NoRecords {
            ns: None, negative_ttl, ..
        })) => Ok(Answer::None { ttl: ttl.min(negative_ttl.unwrap_or(NO_SOA_TTL)) }),
        error => Err(DnsError::Failed { question: question.into(), error: error.to_string() }),
    }
}

#[derive(Debug, PartialEq)]
enum Reading {
    Records { records: Vec<Record>, ttl: u32 },
    Alias { to: Name, ttl: u32 },
    Nothing,
}

/// Finds the records that `name` leads to among the answers; `ttl` is that of the way so far.
fn read(answers: &[Record], mut name: Name, kind: RecordType, mut ttl: u32) -> Reading {
    for followed in 0..=MAX_ALIASES {
        let of_kind = |record: &&Record| record.name == name && record.record_type() == kind;
        let records: Vec<Record> = answers.iter().filter(of_kind).cloned().collect();
        if let Some(least) = records.iter().map(|record| record.ttl).min() {
            return Reading::Records { records, ttl: ttl.min(least) };
        }
        let alias = answers.iter().find_map(|record| match &record.data {
            RData::CNAME(to) if record.name == name => Some((to.0.clone(), record.ttl)),
            _ => None,
        });
        match alias {
            Some((to, alias_ttl)) => (name, ttl) = (to, ttl.min(alias_ttl)),
            None if followed > 0 => return Reading::Alias { to: name, ttl },
            None => return Reading::Nothing,
        }
    }
    // A loop: asking for its next name runs into the bound on questions.
    Reading::Alias { to: name, ttl }
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

    #[test]
    fn aliases_in_an_answer_are_followed_with_the_least_ttl() {
        let answers = [
            address("c.test", 1, 30),
            alias("A.test", "b.test", 20),
            alias("b.test", "c.test", 60),
            address("c.test", 2, 25),
            address("other.test", 3, 1),
        ];
        let Reading::Records { records, ttl } = read(&answers, name("a.test"), RecordType::A, 90)
        else {
            panic!("no records");
        };
        assert_eq!((records.len(), ttl), (2, 20));
    }

    #[test]
    fn an_alias_without_its_target_is_asked_about() {
        let answers = [alias("a.test", "b.test", 20)];
        let expected = Reading::Alias { to: name("b.test"), ttl: 20 };
        assert_eq!(read(&answers, name("a.test"), RecordType::SRV, 60), expected);
        assert_eq!(read(&answers, name("x.test"), RecordType::SRV, 60), Reading::Nothing);
    }

    #[test]
    fn a_loop_ends() {
        let answers = [alias("a.test", "b.test", 20), alias("b.test", "a.test", 20)];
        let read = read(&answers, name("a.test"), RecordType::A, 60);
        assert!(matches!(read, Reading::Alias { .. }));
    }
}
