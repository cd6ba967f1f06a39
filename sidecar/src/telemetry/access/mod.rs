//! The access log: a line for each HTTP request that was answered, and for each TCP connection and
//! UDP session that has ended.
//!
//! Lines are made and written by a thread of their own. Whoever has something to say leaves it in a
//! queue and goes on, also when the disk does not: what does not fit is left out and counted.

mod entry;
mod line;

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use metrics::Counter;

pub use entry::{Entry, Moved, Request, Text};

use super::metrics::Metrics;
use crate::config::raw::LogFormat;
use crate::config::{self, Access, Log};

/// Entries that wait to be written.
const QUEUE: usize = 4096;

/// How long entries gather after the first: whoever leaves one to a thread that sleeps wakes it, and
/// for each line that would cost more than the line.
const GATHER: Duration = Duration::from_millis(5);

/// How long the end of the sidecar waits for the last entries to be written: whoever should read
/// them may be stuck.
const LAST: Duration = Duration::from_secs(1);

/// The log of all listeners.
#[derive(Debug, Clone)]
pub struct AccessLog {
    queue: SyncSender<Queued>,
    dropped: Counter,
}

/// The thread that writes it.
#[derive(Debug)]
pub struct Writer {
    ended: Receiver<()>,
}

/// Where the entries of one listener are left.
#[derive(Debug)]
pub struct ListenerLog {
    log: AccessLog,
    listener: Arc<str>,
    protocol: &'static str,
}

#[derive(Debug)]
struct Queued {
    listener: Arc<str>,
    protocol: &'static str,
    started: SystemTime,
    entry: Entry,
}

impl AccessLog {
    /// Starts the thread that writes; it ends when nobody is left who could have something to say.
    /// `None`: there is to be no such log.
    pub fn start(settings: &Log, metrics: &Metrics) -> io::Result<Option<(Self, Writer)>> {
        let out: Box<dyn Write + Send> = match &settings.access {
            Access::Off => return Ok(None),
            Access::Stdout => Box::new(io::stdout()),
            Access::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                Box::new(file.map_err(|e| io::Error::other(format!("{}: {e}", path.display())))?)
            }
        };
        let (queue, entries) = sync_channel(QUEUE);
        let format = settings.format;
        let (ends, ended) = sync_channel(0);
        thread::Builder::new().name("access-log".into()).spawn(move || {
            write(&entries, BufWriter::new(out), format);
            drop(ends);
        })?;
        let dropped = metrics.access_dropped();
        Ok(Some((Self { queue, dropped }, Writer { ended })))
    }

    /// That of a listener.
    pub fn of(&self, listener: &config::Listener) -> ListenerLog {
        let protocol = listener.traffic.protocol();
        ListenerLog { log: self.clone(), listener: Arc::clone(&listener.name), protocol }
    }
}

impl Writer {
    /// Waits until all is written, once nobody is left who could have something to say.
    pub fn finish(self) {
        if self.ended.recv_timeout(LAST) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the last lines of the access log could not be written");
        }
    }
}

impl ListenerLog {
    /// Leaves an entry of what ends now.
    pub fn note(&self, entry: Entry) {
        let now = SystemTime::now();
        let queued = Queued {
            listener: Arc::clone(&self.listener),
            protocol: self.protocol,
            started: now.checked_sub(entry.lasted).unwrap_or(now),
            entry,
        };
        if self.log.queue.try_send(queued).is_err() {
            self.log.dropped.increment(1);
        }
    }
}

/// Writes what comes; what has been written is seen once nothing more waits.
fn write(entries: &Receiver<Queued>, mut out: impl Write, format: LogFormat) {
    let mut failed = false;
    let mut line = Vec::new();
    while let Ok(first) = entries.recv() {
        thread::sleep(GATHER);
        for entry in [first].into_iter().chain(entries.try_iter()) {
            line.clear();
            let written = entry.line(format, &mut line).and_then(|()| out.write_all(&line));
            if let (Err(error), false) = (&written, failed) {
                tracing::warn!(%error, "the access log cannot be written");
            }
            failed = written.is_err();
        }
        let _ = out.flush();
    }
}
