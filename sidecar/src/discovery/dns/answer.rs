//! What an answer of a nameserver says, or why it says nothing: no socket is opened here.

use std::time::Duration;

use hickory_resolver::net::{self, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record};

/// Longest chain of aliases that is followed.
pub(super) const MAX_ALIASES: usize = 8;
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

/// What one nameserver has answered, or why that is no answer; `ttl` is that of the way so far.
pub(super) fn read_answer(
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

/// What one nameserver says.
#[derive(Debug)]
pub(super) enum Reading {
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
    use hickory_resolver::proto::rr::RecordType;
    use hickory_resolver::proto::rr::rdata::{A, CNAME};

    fn name(text: &str) -> Name {
        Name::from_ascii(format!("{text}.")).unwrap()
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
