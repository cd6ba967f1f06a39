//! Small requests over HTTP/1.1 as fast as they are answered, through the sidecar or past it.
//!
//!     direct CONNECTIONS SECONDS proxied LISTENER
//!     direct CONNECTIONS SECONDS direct CONTROL CLUSTER
//!
//! Prints `requests p50 p99`, the latter in microseconds. Run by `tests/bench --direct`, which counts the
//! processor time; without arguments, as `cargo bench` runs it, it only says so.

// What goes wrong ends it.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use outrigger_sdk::{Balancer, Client, Outcome};
use tokio::net::TcpStream;

/// Where requests go.
#[derive(Clone)]
enum Way {
    Proxied(String),
    Direct(Balancer),
}

// One thread, as the sidecar has: what is compared is the work, not how it is spread.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (connections, seconds, way) = match arguments.as_slice() {
        [connections, seconds, "proxied", listener] => {
            (connections, seconds, Way::Proxied((*listener).to_owned()))
        }
        [connections, seconds, "direct", control, cluster] => {
            let client = Client::builder().address(*control).connect().unwrap();
            (connections, seconds, Way::Direct(Balancer::new(client, cluster).await.unwrap()))
        }
        _ => return println!("./tests/bench --direct runs this"),
    };
    let end = Instant::now() + Duration::from_secs(seconds.parse().unwrap());
    let connections = 0..connections.parse::<u32>().unwrap();
    let tasks: Vec<_> = connections.map(|_| tokio::spawn(ask_until(end, way.clone()))).collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    times.sort_unstable();
    println!("{} {} {}", times.len(), times[times.len() / 2], times[times.len() * 99 / 100]);
}

/// One request after another: how long each took, in microseconds.
async fn ask_until(end: Instant, way: Way) -> Vec<u128> {
    let mut connections = HashMap::new();
    let mut times = Vec::new();
    while Instant::now() < end {
        let sent = Instant::now();
        match &way {
            Way::Proxied(listener) => ask(&mut connections, listener).await,
            Way::Direct(balancer) => {
                let pick = balancer.pick().unwrap();
                ask(&mut connections, pick.name()).await;
                pick.report(Outcome::Success, Some(sent.elapsed()));
            }
        }
        times.push(sent.elapsed().as_micros());
    }
    times
}

/// A request over the connection to that address, which is kept.
async fn ask(connections: &mut HashMap<String, SendRequest<Empty<Bytes>>>, address: &str) {
    if !connections.contains_key(address) {
        connections.insert(address.to_owned(), connect(address).await);
    }
    let connection = connections.get_mut(address).unwrap();
    connection.ready().await.unwrap();
    let request = Request::get("/").header("host", address).body(Empty::new()).unwrap();
    let answer = connection.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.unwrap();
}

async fn connect(address: &str) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(address.parse::<SocketAddr>().unwrap()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}
