//! All sessions of a listener: who belongs to which, and which of them goes first.
//!
//! One order serves two ends. Sessions are kept by when they were last used, so that the oldest is the
//! one to make room for a new one, and the one whose silence is the first to last too long: nobody has a
//! timer of its own.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::rc::Rc;

use lru::LruCache;
use slab::Slab;
use tokio::time::Instant;

use super::session::{self, Session, Undelivered};
use super::site::{Record, Site};
use crate::net::crowd::Crowd;
use crate::net::udp::{LARGEST, Peer, Server};
use crate::telemetry::metrics::{Dropped, End};

/// Idle sessions that are ended at a time, so that nobody waits long for that.
const ENDED_AT_A_TIME: usize = 512;
/// Replies that a session passes on before the others have their turn.
const REPLIES_AT_A_TIME: usize = 16;

#[derive(Debug)]
pub(super) struct Sessions {
    site: Rc<Site>,
    all: Slab<Session>,
    /// The number of each client's, in the order of use.
    by_client: LruCache<SocketAddr, usize>,
    /// Their sockets.
    pub(super) crowd: Crowd,
    /// Where a reply is while it is passed on.
    reply: Box<[u8]>,
}

impl Sessions {
    pub(super) fn new(site: Rc<Site>) -> io::Result<Self> {
        // Bounded by `open`, since whoever has to go is to be counted.
        let by_client = LruCache::unbounded();
        let reply = vec![0; LARGEST].into_boxed_slice();
        Ok(Self { site, all: Slab::new(), by_client, crowd: Crowd::new()?, reply })
    }

    /// A datagram of a client's.
    pub(super) fn take_request(&mut self, client: Peer, datagram: &[u8], now: Instant) {
        let forwarded = self.session(client, now).map_err(Undelivered::Ended).and_then(|number| {
            let Some(session) = self.all.get_mut(number) else { return Ok(()) };
            (session.client, session.used) = (client, now);
            session.forward(&self.site, &self.crowd, number, datagram)
        });
        match forwarded {
            Ok(()) => {
                self.site.udp.to_backend.increment(1);
                let bytes = &self.site.cluster.metrics().bytes_to_backend;
                bytes.increment(datagram.len() as u64);
            }
            Err(Undelivered::Dropped(why)) => self.site.udp.dropped(why).increment(1),
            Err(Undelivered::Ended(end)) => {
                self.site.udp.dropped(Dropped::NoBackend).increment(1);
                self.end(client.address, end);
            }
        }
    }

    /// The backend of a session has said something, or refuses.
    pub(super) fn take_replies(&mut self, number: usize, server: &Server, now: Instant) {
        // It may have ended since it was called.
        let Some(session) = self.all.get_mut(number) else { return };
        let client = session.client.address;
        session.used = now;
        self.by_client.promote(&client);
        for _ in 0..REPLIES_AT_A_TIME {
            match session.reply(&self.site, server, &mut self.reply) {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(Some(end)) => return self.end(client, end),
                ControlFlow::Break(None) => return,
            }
        }
        session.call_again(&self.crowd, number);
    }

    /// Ends what was silent for too long, and what a drain is to end.
    pub(super) fn sweep(&mut self, now: Instant) {
        let cut = self.all.iter().filter(|(_, session)| session.is_cut());
        let cut: Vec<_> = cut.map(|(_, session)| session.client.address).collect();
        cut.into_iter().for_each(|client| self.end(client, End::Drained));

        let Some(idle) = self.site.cluster.settings().timeouts.session_idle else { return };
        for _ in 0..ENDED_AT_A_TIME {
            let Some((client, number)) = self.by_client.peek_lru() else { return };
            let used = self.all.get(*number).map(|session| session.used);
            if used.is_some_and(|used| now.duration_since(used) < idle) {
                return;
            }
            self.end(*client, End::Idle);
        }
    }

    /// The number of the client's session, which is opened if there is none.
    fn session(&mut self, client: Peer, now: Instant) -> Result<usize, End> {
        match self.by_client.get(&client.address) {
            Some(number) => Ok(*number),
            None => self.open(client, now),
        }
    }

    /// Nobody has to make room for a session that finds no backend.
    fn open(&mut self, client: Peer, now: Instant) -> Result<usize, End> {
        let connected = session::connect(&self.site, client, None);
        if connected.is_ok() {
            self.make_room();
        }
        let mut record = Record::new(&self.site, client.address, now);
        let number = self.all.vacant_key();
        let connected = connected.and_then(|connected| {
            connected.join(&self.crowd, number)?;
            Ok(connected)
        });
        let connected = connected.inspect_err(|end| record.end = *end)?;
        self.all.insert(Session::new(client, record, connected, now));
        self.by_client.push(client.address, number);
        Ok(number)
    }

    fn make_room(&mut self) {
        if self.all.len() >= self.site.settings.max_sessions
            && let Some((oldest, _)) = self.by_client.peek_lru()
        {
            self.end(*oldest, End::Evicted);
        }
    }

    fn end(&mut self, client: SocketAddr, end: End) {
        if let Some(number) = self.by_client.pop(&client)
            && let Some(mut session) = self.all.try_remove(number)
        {
            session.record.end = end;
        }
    }
}
