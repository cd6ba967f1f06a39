//! A DNS server that fails on demand.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable;
use outrigger_tests::bind::SERVICE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use crate::forged::Forgery;

/// What is said about SRV records.
#[derive(Debug, Clone)]
pub enum Reply {
    /// These backends, in this order.
    Srv(Vec<SocketAddr>),
    Code(ResponseCode),
    Silence,
    NxDomain,
    NoData,
    /// One record with the target `.`.
    RootTarget,
    /// First something that claims to be the answer and names the one backend, then the answer
    /// with the others.
    Forged(Forgery, SocketAddr, Vec<SocketAddr>),
}

/// What becomes of questions over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tcp {
    Answered,
    /// The connection is closed in place of an answer.
    Closed,
    /// Nothing is ever said.
    Silent,
    /// The answer is cut short there too.
    Truncated,
}

/// Questions for SRV records so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Questions {
    pub udp: usize,
    pub tcp: usize,
}

#[derive(Debug)]
struct State {
    reply: Reply,
    /// What is said of some names in place of that.
    names: HashMap<Name, Reply>,
    ttl: u32,
    glue: bool,
    /// So many backends are of the first tier, those after them of the second.
    first_tier: usize,
    /// So many SRV records go into an answer that is cut short, as all are over UDP.
    cut: Option<usize>,
    tcp: Tcp,
    questions: Questions,
    /// The largest answer that was offered to take over UDP.
    payload: u16,
}

#[derive(Debug)]
pub struct FaultyDns {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    tasks: [JoinHandle<()>; 2],
}

impl FaultyDns {
    pub async fn start() -> Self {
        let (listener, udp) = sockets().await;
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            reply: Reply::Silence,
            names: HashMap::new(),
            ttl: 1,
            glue: true,
            first_tier: usize::MAX,
            cut: None,
            tcp: Tcp::Answered,
            questions: Questions::default(),
            payload: 0,
        }));
        let tasks = [
            tokio::spawn(serve_udp(udp, Arc::clone(&state))),
            tokio::spawn(serve_tcp(listener, Arc::clone(&state))),
        ];
        Self { address, state, tasks }
    }

    /// A cluster `api` that finds its backends here.
    pub fn config(&self) -> String {
        config(&[self.address], "")
    }

    pub fn set(&self, reply: Reply) {
        self.state().reply = reply;
    }

    /// What is said of this name alone.
    pub fn set_name(&self, of: &str, reply: Reply) {
        self.state().names.insert(name(of), reply);
    }

    pub fn serve_srv(&self, backends: &[SocketAddr]) {
        self.set(Reply::Srv(backends.to_vec()));
    }

    pub fn set_ttl(&self, ttl: u32) {
        self.state().ttl = ttl;
    }

    /// From now on addresses of targets must be asked for.
    pub fn without_glue(&self) {
        self.state().glue = false;
    }

    /// The backends after so many are only to be used when none of those can be.
    pub fn set_first_tier(&self, backends: usize) {
        self.state().first_tier = backends;
    }

    /// Only so many SRV records go over UDP, with the TC bit.
    pub fn truncate(&self, records: usize, tcp: Tcp) {
        let mut state = self.state();
        (state.cut, state.tcp) = (Some(records), tcp);
    }

    /// SRV questions so far.
    pub fn questions(&self) -> usize {
        let Questions { udp, tcp } = self.state().questions;
        udp + tcp
    }

    pub fn questions_by_transport(&self) -> Questions {
        self.state().questions
    }

    /// The largest answer over UDP that the last question offered to take.
    pub fn payload(&self) -> u16 {
        self.state().payload
    }

    /// Nobody listens from now on.
    pub fn stop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    /// Listens again where it did.
    pub async fn restart(&mut self) {
        for task in &mut self.tasks {
            let _ = task.await;
        }
        let udp = UdpSocket::bind(self.address).await.unwrap();
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.tasks = [
            tokio::spawn(serve_udp(udp, Arc::clone(&self.state))),
            tokio::spawn(serve_tcp(listener, Arc::clone(&self.state))),
        ];
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for FaultyDns {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `[dns]` with these nameservers and `extra`, and a cluster `api` that finds its backends there.
pub fn config(nameservers: &[SocketAddr], extra: &str) -> String {
    let nameservers: Vec<_> = nameservers.iter().map(ToString::to_string).collect();
    format!(
        "[dns]\nnameservers = {nameservers:?}\ntimeout = \"500ms\"\n{extra}\n\
         [listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"api\"\n\
         [clusters.api.discovery]\nsource = \"dns_srv\"\nname = \"{SERVICE}\"\n"
    )
}

/// Both of one port.
async fn sockets() -> (TcpListener, UdpSocket) {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(udp) = UdpSocket::bind(listener.local_addr().unwrap()).await {
            return (listener, udp);
        }
    }
}

async fn serve_udp(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut buffer = [0; 4096];
    while let Ok((read, from)) = socket.recv_from(&mut buffer).await {
        let Ok(query) = Message::from_bytes(&buffer[..read]) else { continue };
        let (forged, answer) = {
            let mut state = state.lock().unwrap();
            state.questions.udp += usize::from(is_srv(&query));
            state.payload = query.edns.as_ref().map_or(512, |edns| edns.max_payload());
            let cut = state.cut;
            (forged(&query, &state), answer(&query, &state, cut))
        };
        if let Some((forgery, lie)) = forged {
            forgery.send(&socket, from, lie).await;
        }
        if let Some(answer) = answer {
            let _ = socket.send_to(&answer.to_vec().unwrap(), from).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve_connection(stream, Arc::clone(&state)));
    }
}

/// Answers until the peer leaves.
async fn serve_connection(mut stream: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    loop {
        let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut bytes).await?;
        let query = Message::from_bytes(&bytes).expect("a question");
        let (tcp, answer) = {
            let mut state = state.lock().unwrap();
            state.questions.tcp += usize::from(is_srv(&query));
            let cut = state.cut.filter(|_| state.tcp == Tcp::Truncated);
            (state.tcp, answer(&query, &state, cut))
        };
        match answer {
            _ if tcp == Tcp::Closed => return Ok(()),
            Some(answer) if tcp != Tcp::Silent => {
                let bytes = answer.to_vec().unwrap();
                stream.write_u16(u16::try_from(bytes.len()).unwrap()).await?;
                stream.write_all(&bytes).await?;
            }
            _ => {}
        }
    }
}

fn is_srv(query: &Message) -> bool {
    query.queries[0].query_type() == RecordType::SRV
}

fn reply<'s>(query: &Message, state: &'s State) -> &'s Reply {
    state.names.get(&query.queries[0].name().to_lowercase()).unwrap_or(&state.reply)
}

/// A lie about the backends, if one is to be told.
fn forged(query: &Message, state: &State) -> Option<(Forgery, Message)> {
    match reply(query, state) {
        Reply::Forged(forgery, liar, _) if is_srv(query) => {
            let mut lie = blank(query);
            add_backends(&mut lie, &[*liar], state);
            Some((*forgery, lie))
        }
        _ => None,
    }
}

/// An answer to the question without anything in it.
fn blank(query: &Message) -> Message {
    let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.authoritative = true;
    answer.queries.push(query.queries[0].clone());
    answer
}

fn answer(query: &Message, state: &State, cut: Option<usize>) -> Option<Message> {
    let mut answer = blank(query);
    let question: &Query = &query.queries[0];
    let ttl = state.ttl;
    if question.query_type() == RecordType::A {
        answer.answers.push(address(question.name().clone(), ttl));
        return Some(answer);
    }
    if question.query_type() != RecordType::SRV {
        answer.authorities.push(soa(ttl));
        return Some(answer);
    }
    match reply(query, state) {
        Reply::Silence => return None,
        Reply::Code(code) => answer.metadata.response_code = *code,
        Reply::NxDomain => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            answer.authorities.push(soa(ttl));
        }
        Reply::NoData => answer.authorities.push(soa(ttl)),
        Reply::RootTarget => {
            let none = RData::SRV(SRV::new(0, 0, 0, Name::root()));
            answer.answers.push(Record::from_rdata(question.name().clone(), ttl, none));
        }
        Reply::Forged(forgery, ..) if forgery.is_the_answer() => return None,
        Reply::Srv(backends) | Reply::Forged(_, _, backends) => {
            answer.metadata.truncation = cut.is_some();
            let sent = cut.unwrap_or(usize::MAX).min(backends.len());
            add_backends(&mut answer, &backends[..sent], state);
        }
    }
    Some(answer)
}

fn add_backends(answer: &mut Message, backends: &[SocketAddr], state: &State) {
    let owner = answer.queries[0].name().clone();
    let mut targets = BTreeSet::new();
    for (index, backend) in backends.iter().enumerate() {
        let priority = if index < state.first_tier { 10 } else { 20 };
        // So few, and short, that a thousand records fit into an answer.
        let target = name(&format!("h{}.test.", backend.port() % 10));
        let srv = RData::SRV(SRV::new(priority, 1, backend.port(), target.clone()));
        answer.answers.push(Record::from_rdata(owner.clone(), state.ttl, srv));
        targets.insert(target);
    }
    if state.glue {
        answer.additionals.extend(targets.into_iter().map(|target| address(target, state.ttl)));
    }
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
