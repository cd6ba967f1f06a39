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

/// Sockets that are named at a time.
const AT_A_TIME: usize = 64;

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
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "for types that may lie about their descriptor; this owns it"
        )]
        let epoll = AsyncFd::new(epoll)?;
        Ok(Self { epoll })
    }

    pub fn add(&self, socket: impl AsFd, number: usize) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(number as u64), EventFlags::IN)?)
    }

    /// Waits until some can be read. They are named again for as long as they can, so that whoever has
    /// much to say does not keep the others waiting.
    pub async fn ready(&self, ready: &mut Ready) -> io::Result<()> {
        loop {
            let mut queue = self.epoll.readable().await?;
            ready.0.clear();
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            match epoll::wait(&self.epoll, spare_capacity(&mut ready.0), Some(&at_once)) {
                Ok(0) => queue.clear_ready(),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
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
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.0.iter().filter_map(|event| usize::try_from(event.data.u64()).ok())
    }
}
