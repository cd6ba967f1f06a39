//! Many sockets that one task reads, with nothing of the runtime's for each of them.
//!
//! A socket of the runtime costs its registration and whoever waits for it. Thousands that are silent
//! most of the time wait in a queue of the kernel's instead, an epoll of their own, and the runtime
//! knows that queue only.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use tokio::io::unix::AsyncFd;

use super::readable::readable;

/// Sockets that are named at a time.
const AT_A_TIME: usize = 64;
/// A socket is named once for what is new, not for as long as it can be read: to be told that there is
/// nobody left would take another question.
const NEWS: EventFlags = EventFlags::IN.union(EventFlags::ET);

/// Sockets by a number of their owner's. One that is closed has left.
#[derive(Debug)]
pub struct Crowd {
    epoll: AsyncFd<OwnedFd>,
}

/// Those that can be read, or have failed.
pub struct Ready(Vec<Event>);

impl Crowd {
    /// To be called on the runtime that it is used on.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: readable(epoll::create(CreateFlags::CLOEXEC)?)? })
    }

    pub fn add(&self, socket: impl AsFd, number: usize) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(number as u64), NEWS)?)
    }

    /// Has one that was not read to its end named again, after the others: so whoever has much to say
    /// does not keep them waiting.
    pub fn again(&self, socket: impl AsFd, number: usize) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(number as u64), NEWS)?)
    }

    /// Waits until some can be read. Whoever is not read to its end then is to be named
    /// [`again`](Self::again).
    pub async fn ready(&self, ready: &mut Ready) -> io::Result<()> {
        loop {
            let mut queue = self.epoll.readable().await?;
            ready.0.clear();
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            match epoll::wait(&self.epoll, spare_capacity(&mut ready.0), Some(&at_once)) {
                // There was room for more, so there are no more: saves asking in vain.
                Ok(count) if count < AT_A_TIME => queue.clear_ready(),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if !ready.0.is_empty() {
                return Ok(());
            }
        }
    }
}

impl Default for Ready {
    fn default() -> Self {
        Self(Vec::with_capacity(AT_A_TIME))
    }
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready").field("sockets", &self.0.len()).finish()
    }
}

impl Ready {
    /// Whether there may be more of them.
    pub fn is_full(&self) -> bool {
        self.0.len() == AT_A_TIME
    }

    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.0.iter().filter_map(|event| usize::try_from(event.data.u64()).ok())
    }
}
