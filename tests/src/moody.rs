//! A backend whose behaviour the test changes while it runs, and that knows how much it is given.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::backend::{Body, X_BACKEND, full, serve};

/// What a backend does with every request that comes.
#[derive(Debug, Clone, Copy)]
pub enum Mood {
    /// Answers well after so long.
    Good(Duration),
    /// Answers at once with this status.
    Failing(StatusCode),
    /// Answers so many of ten requests with a 500, evenly spread, and the others well.
    Flaky(usize),
    /// Resets the connection instead of answering.
    Resetting,
}

pub const GOOD: Mood = Mood::Good(Duration::ZERO);
pub const BAD: Mood = Mood::Failing(StatusCode::INTERNAL_SERVER_ERROR);

#[derive(Debug)]
pub struct Moody {
    pub address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    address: SocketAddr,
    mood: Mutex<Mood>,
    hits: AtomicUsize,
    requests: Level,
}

impl Moody {
    pub async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            address,
            mood: Mutex::new(mood),
            hits: AtomicUsize::new(0),
            requests: Level::default(),
        });
        let shared = Arc::clone(&state);
        let task = serve(listener, move |stream| connection(stream, Arc::clone(&shared)));
        Self { address, state, task }
    }

    /// Several of them.
    pub async fn some<const N: usize>(mood: Mood) -> [Self; N] {
        let mut all = Vec::new();
        for _ in 0..N {
            all.push(Self::start(mood).await);
        }
        all.try_into().expect("there are as many as were started")
    }

    /// From now on it is in this mood.
    pub fn becomes(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// Its name in the sidecar.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Requests so far.
    pub fn hits(&self) -> usize {
        self.state.hits.load(Ordering::Relaxed)
    }

    /// The most requests that it had at a time.
    pub fn most_requests(&self) -> usize {
        self.state.requests.most()
    }
}

impl Drop for Moody {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    // It never closes a connection on which it has answered, so nothing is lost by this.
    stream.set_zero_linger().unwrap();
    let service = service_fn(|_| answer(&state));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(state: &State) -> io::Result<Response<Body>> {
    let _begun = state.requests.enter();
    let hit = state.hits.fetch_add(1, Ordering::Relaxed);
    let mood = *state.mood.lock().unwrap();
    let status = match mood {
        Mood::Good(after) => {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            StatusCode::OK
        }
        Mood::Failing(status) => status,
        Mood::Flaky(of_ten) if hit * of_ten % 10 < of_ten => StatusCode::INTERNAL_SERVER_ERROR,
        Mood::Flaky(_) => StatusCode::OK,
        Mood::Resetting => return Err(io::ErrorKind::ConnectionReset.into()),
    };
    let answer = Response::builder().status(status).header(X_BACKEND, state.address.to_string());
    Ok(answer.body(full("moody\n")).unwrap())
}

/// How many there are now, and how many there were at most.
#[derive(Debug, Default)]
struct Level {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Level {
    /// One more, for as long as the value lives.
    fn enter(&self) -> Inside<'_> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        Inside(self)
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

struct Inside<'a>(&'a Level);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}
