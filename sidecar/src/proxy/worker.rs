//! A worker: one thread that carries the connections it accepts to their end.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use futures_util::FutureExt;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::spawn_local;
use tokio::time::MissedTickBehavior;

use super::cluster::LocalCluster;
use super::listener::{Listener, Socket};
use super::service::{Service, Services};
use super::timer::Timers;
use crate::net::dial::{StdStream, Stream};
use crate::net::listen::{Accepted, Acceptor};
use crate::shutdown::{Guard, Guards, Phase};
use crate::upstream;

/// Connections on their way from one worker to another.
const HANDED_OVER: usize = 1024;

/// The workers, as each of them sees the others.
#[derive(Debug)]
struct Team {
    listeners: Vec<Listener>,
    members: Vec<Member>,
    guards: Guards,
}

#[derive(Debug)]
struct Member {
    connections: AtomicUsize,
    inbox: mpsc::Sender<HandOver>,
}

/// A connection on its way to the worker that will carry it.
#[derive(Debug)]
struct HandOver {
    stream: StdStream,
    peer: Option<SocketAddr>,
    open: Open,
}

/// Counts an open connection wherever it counts.
#[derive(Debug)]
struct Open {
    team: Arc<Team>,
    worker: usize,
    listener: usize,
    _permit: OwnedSemaphorePermit,
    _guard: Guard,
}

/// Starts `count` workers on these listeners, each with the socket that it is bound to: they are
/// all there is of the sockets, which close with the last worker that accepts. The workers end
/// when the sender of `phase` is gone.
pub fn start(
    count: usize,
    listeners: Vec<(Socket, Listener)>,
    guards: &Guards,
    phase: &watch::Receiver<Phase>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let (sockets, listeners): (Vec<_>, _) = listeners.into_iter().unzip();
    let (members, inboxes): (Vec<_>, Vec<_>) = (0..count)
        .map(|_| {
            let (inbox, handed_over) = mpsc::channel(HANDED_OVER);
            (Member { connections: AtomicUsize::new(0), inbox }, handed_over)
        })
        .unzip();
    let team = Arc::new(Team { listeners, members, guards: guards.clone() });
    let spawn = |(index, inbox)| {
        let (team, phase) = (Arc::clone(&team), phase.clone());
        let acceptors = sockets.iter().map(Socket::share).collect::<Result<_, _>>()?;
        thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || run(index, &team, acceptors, inbox, phase))
    };
    inboxes.into_iter().enumerate().map(spawn).collect()
}

/// The thread of a worker.
fn run(
    index: usize,
    team: &Arc<Team>,
    sockets: Vec<Socket>,
    inbox: mpsc::Receiver<HandOver>,
    phase: watch::Receiver<Phase>,
) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let ended = runtime.and_then(|runtime| {
        let worker = Worker::new(index, Arc::clone(team));
        runtime.block_on(worker.work(sockets, inbox, phase))
    });
    if let Err(error) = ended {
        tracing::error!(worker = index, %error, "a worker could not start");
    }
}

struct Worker {
    index: usize,
    team: Arc<Team>,
    /// In the order of the team's listeners.
    services: Vec<Service>,
    clusters: Vec<Rc<LocalCluster>>,
    timers: Rc<Timers>,
    draining: Rc<Cell<bool>>,
    closing: Rc<Cell<bool>>,
}

impl Worker {
    fn new(index: usize, team: Arc<Team>) -> Rc<Self> {
        let (draining, closing) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let timers = Timers::new();
        let mut all = Services::new(&timers, &draining, &closing);
        let services = team.listeners.iter().map(|listener| all.of(listener)).collect();
        let clusters = all.clusters();
        Rc::new(Self { index, team, services, clusters, timers, draining, closing })
    }

    /// Accepts and carries connections until the sender of `phase` is gone.
    async fn work(
        self: Rc<Self>,
        sockets: Vec<Socket>,
        mut inbox: mpsc::Receiver<HandOver>,
        mut phase: watch::Receiver<Phase>,
    ) -> io::Result<()> {
        spawn_local(Rc::clone(&self.timers).run());
        spawn_local(Rc::clone(&self).sweep());
        for (listener, socket) in sockets.into_iter().enumerate() {
            match (socket, &self.services[listener]) {
                (Socket::Connections(socket), _) => {
                    let acceptor = socket.into_acceptor()?;
                    spawn_local(Rc::clone(&self).accept(listener, acceptor, phase.clone()));
                }
                (Socket::Datagrams(socket), Service::Udp(Some(site)))
                    if self.team.reader(listener) == self.index =>
                {
                    spawn_local(super::udp::serve(Rc::clone(site), socket)?);
                }
                (Socket::Datagrams(_), _) => {}
            }
        }
        loop {
            tokio::select! {
                Some(HandOver { stream, peer, open }) = inbox.recv() => {
                    match Stream::from_std(stream) {
                        Ok(stream) => self.carry(Accepted { stream, peer }, open),
                        Err(error) => tracing::warn!(%error, "a connection was lost between workers"),
                    }
                }
                changed = phase.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.enter(*phase.borrow_and_update());
                }
            }
        }
    }

    fn enter(&self, phase: Phase) {
        self.draining.set(phase >= Phase::Draining);
        self.closing.set(phase >= Phase::Closing);
        self.timers.wake_all();
    }

    async fn accept(
        self: Rc<Self>,
        listener: usize,
        acceptor: Acceptor,
        mut phase: watch::Receiver<Phase>,
    ) {
        let permits = &self.team.listeners[listener].permits;
        let accept_all = async {
            while let Ok(permit) = Arc::clone(permits).acquire_owned().await {
                self.place(listener, acceptor.accept().await, permit);
            }
        };
        tokio::select! {
            () = accept_all => {}
            _ = phase.wait_for(|phase| *phase == Phase::Closing) => {}
        }
        // Whoever is in the backlog now would be reset when the socket closes.
        while let Some(accepted) = acceptor.accept().now_or_never()
            && let Ok(permit) = Arc::clone(permits).try_acquire_owned()
        {
            let open = Open::new(&self.team, self.index, listener, permit);
            self.carry(accepted, open);
        }
    }

    /// Carries a connection itself, or hands it over when another worker has fewer.
    fn place(self: &Rc<Self>, listener: usize, accepted: Accepted, permit: OwnedSemaphorePermit) {
        let target = self.team.least_loaded(self.index);
        let open = Open::new(&self.team, target, listener, permit);
        if target == self.index {
            return self.carry(accepted, open);
        }
        let Accepted { stream, peer } = accepted;
        let handed_over = stream.into_std().and_then(|stream| {
            let inbox = &self.team.members[target].inbox;
            inbox.try_send(HandOver { stream, peer, open }).map_err(io::Error::other)
        });
        if let Err(error) = handed_over {
            tracing::warn!(%error, "a connection was lost between workers");
        }
    }

    fn carry(self: &Rc<Self>, accepted: Accepted, open: Open) {
        let worker = Rc::clone(self);
        spawn_local(async move {
            let door = &worker.team.listeners[open.listener].door;
            let service = &worker.services[open.listener];
            match door.enter(accepted).await {
                Ok((arrival, counted)) => service.serve(arrival, (counted, open)).await,
                Err(refusal) => service.refused(&refusal),
            }
        });
    }

    /// Ends connections and work that are to end.
    async fn sweep(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(upstream::TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            self.clusters.iter().for_each(|cluster| cluster.sweep(now));
        }
    }
}

impl Team {
    /// The worker that reads all datagrams of a listener, so that its table of sessions is one thread's,
    /// without a lock and with a bound that is exact. Listeners are dealt out by their place.
    fn reader(&self, listener: usize) -> usize {
        listener % self.members.len().max(1)
    }

    /// The worker with the fewest connections; `asking` unless another has fewer.
    fn least_loaded(&self, asking: usize) -> usize {
        let load = |worker: &usize| {
            let connections = self.members[*worker].connections.load(Ordering::Relaxed);
            (connections, *worker != asking)
        };
        (0..self.members.len()).min_by_key(load).unwrap_or(asking)
    }
}

impl Open {
    fn new(team: &Arc<Team>, worker: usize, listener: usize, permit: OwnedSemaphorePermit) -> Self {
        team.members[worker].connections.fetch_add(1, Ordering::Relaxed);
        let metrics = &team.listeners[listener].metrics;
        metrics.connections.increment(1);
        metrics.connections_active.increment(1.0);
        let guard = team.guards.guard();
        Self { team: Arc::clone(team), worker, listener, _permit: permit, _guard: guard }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.team.members[self.worker].connections.fetch_sub(1, Ordering::Relaxed);
        self.team.listeners[self.listener].metrics.connections_active.decrement(1.0);
    }
}
