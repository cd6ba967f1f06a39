//! A DNS server that fails on demand.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable;
use outrigger_tests::bind::SERVICE;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

#[derive(Debug, Clone)]
pub enum Reply {
    /// SRV records, in this order.
    Srv(Vec<SocketAddr>),
    ServFail,
    Refused,
    Silence,
    NxDomain,
    NoData,
    /// One record with the target `.`.
    RootTarget,
}

#[derive(Debug)]
struct State {
    reply: Reply,
    ttl: u32,
    glue: bool,
}

#[derive(Debug)]
pub struct FaultyDns {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    questions: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl FaultyDns {
    pub async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let state = State { reply: Reply::Silence, ttl: 1, glue: true };
        let state = Arc::new(Mutex::new(state));
        let questions = Arc::<AtomicUsize>::default();
        let (shared, counted) = (Arc::clone(&state), Arc::clone(&questions));
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((read, from)) = socket.recv_from(&mut buffer).await {
                let Ok(query) = Message::from_bytes(&buffer[..read]) else { continue };
                if query.queries[0].query_type() == RecordType::SRV {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                let answer = answer(&query, &shared.lock().unwrap());
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer.to_vec().unwrap(), from).await;
                }
            }
        });
        Self { address, state, questions, task }
    }

    pub fn config(&self) -> String {
        format!(
            "[dns]\nnameservers = [\"{}\"]\ntimeout = \"500ms\"\n\
             [listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"api\"\n\
             [clusters.api.discovery]\nsource = \"dns_srv\"\nname = \"{SERVICE}\"\n",
            self.address
        )
    }

    pub fn set(&self, reply: Reply) {
        self.state.lock().unwrap().reply = reply;
    }

    pub fn serve_srv(&self, backends: &[SocketAddr]) {
        self.set(Reply::Srv(backends.to_vec()));
    }

    pub fn set_ttl(&self, ttl: u32) {
        self.state.lock().unwrap().ttl = ttl;
    }

    /// From now on addresses of targets must be asked for.
    pub fn without_glue(&self) {
        self.state.lock().unwrap().glue = false;
    }

    /// SRV questions so far.
    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::Relaxed)
    }
}

impl Drop for FaultyDns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(query: &Message, state: &State) -> Option<Message> {
    let question = query.queries[0].clone();
    let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.authoritative = true;
    answer.queries.push(question.clone());
    let owner = question.name().clone();
    let ttl = state.ttl;
    if question.query_type() == RecordType::A {
        answer.answers.push(address(owner, ttl));
        return Some(answer);
    }
    if question.query_type() != RecordType::SRV {
        answer.authorities.push(soa(ttl));
        return Some(answer);
    }
    match &state.reply {
        Reply::Silence => return None,
        Reply::ServFail => answer.metadata.response_code = ResponseCode::ServFail,
        Reply::Refused => answer.metadata.response_code = ResponseCode::Refused,
        Reply::NxDomain => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            answer.authorities.push(soa(ttl));
        }
        Reply::NoData => answer.authorities.push(soa(ttl)),
        Reply::RootTarget => {
            let none = RData::SRV(SRV::new(0, 0, 0, Name::root()));
            answer.answers.push(Record::from_rdata(owner, ttl, none));
        }
        Reply::Srv(backends) => {
            for backend in backends {
                let target = name(&format!("h{}.test.internal.", backend.port()));
                let srv = RData::SRV(SRV::new(10, 1, backend.port(), target.clone()));
                answer.answers.push(Record::from_rdata(owner.clone(), ttl, srv));
                if state.glue {
                    answer.additionals.push(address(target, ttl));
                }
            }
        }
    }
    Some(answer)
}

fn address(owner: Name, ttl: u32) -> Record {
    Record::from_rdata(owner, ttl, RData::A(A(Ipv4Addr::LOCALHOST)))
}

/// A "no" holds for one second.
fn soa(ttl: u32) -> Record {
    let zone = name("test.internal.");
    Record::from_rdata(
        zone.clone(),
        ttl,
        RData::SOA(SOA::new(zone.clone(), zone, 1, 60, 60, 60, 1)),
    )
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}
