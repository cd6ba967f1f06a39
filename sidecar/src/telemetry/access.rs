//! The access log: a line for each TCP connection and UDP session that has ended.
//!
//! Lines are made and written by a thread of their own. Whoever has something to say leaves it in a
//! queue and goes on, also when the disk does not: what does not fit is left out and counted.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use metrics::Counter;
use serde::Serialize;

use super::metrics::{End, Metrics};
use crate::config::raw::LogFormat;
use crate::config::{Access, Log};

/// Entries that wait to be written.
const QUEUE: usize = 4096;

/// Where entries are left.
#[derive(Debug)]
pub struct AccessLog {
    queue: SyncSender<Entry>,
    dropped: Counter,
}

/// What became of a connection or session.
#[derive(Debug)]
pub struct Entry {
    pub protocol: &'static str,
    pub listener: Arc<str>,
    /// Empty: there is none.
    pub cluster: Arc<str>,
    pub client: Option<SocketAddr>,
    /// `None`: nobody was connected.
    pub backend: Option<Arc<str>>,
    pub ended: SystemTime,
    pub lasted: Duration,
    pub moved: Moved,
    pub end: End,
}

/// Bytes that were passed on.
#[derive(Debug, Default, Clone, Copy)]
pub struct Moved {
    pub to_backend: u64,
    pub from_backend: u64,
}

/// An entry as JSON has it.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    protocol: &'a str,
    listener: &'a str,
    cluster: &'a str,
    client: Option<SocketAddr>,
    backend: Option<&'a str>,
    duration_seconds: f64,
    bytes_to_backend: u64,
    bytes_from_backend: u64,
    end: &'a str,
}

impl AccessLog {
    /// Starts the thread that writes; it ends when nobody is left who could have something to say.
    /// `None`: there is to be no such log.
    pub fn start(
        settings: &Log,
        metrics: &Metrics,
    ) -> io::Result<Option<(Arc<Self>, JoinHandle<()>)>> {
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
        let writer = thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write(&entries, BufWriter::new(out), format))?;
        let dropped = metrics.access_dropped();
        Ok(Some((Arc::new(Self { queue, dropped }), writer)))
    }

    pub fn note(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            self.dropped.increment(1);
        }
    }
}

/// Writes what comes; what has been written is seen once nothing more waits.
fn write(entries: &Receiver<Entry>, mut out: impl Write, format: LogFormat) {
    let mut failed = false;
    loop {
        let entry = match entries.try_recv() {
            Ok(entry) => entry,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                let _ = out.flush();
                let Ok(entry) = entries.recv() else { break };
                entry
            }
        };
        let written = writeln!(out, "{}", entry.line(format));
        if let (Err(error), false) = (&written, failed) {
            tracing::warn!(%error, "the access log cannot be written");
        }
        failed = written.is_err();
    }
    let _ = out.flush();
}

impl Entry {
    fn line(&self, format: LogFormat) -> String {
        let timestamp = humantime::format_rfc3339_millis(self.ended).to_string();
        let line = Line {
            timestamp,
            protocol: self.protocol,
            listener: &self.listener,
            cluster: &self.cluster,
            client: self.client,
            backend: self.backend.as_deref(),
            duration_seconds: (self.lasted.as_secs_f64() * 1e6).round() / 1e6,
            bytes_to_backend: self.moved.to_backend,
            bytes_from_backend: self.moved.from_backend,
            end: self.end.name(),
        };
        match format {
            LogFormat::Json => serde_json::to_string(&line).unwrap_or_default(),
            LogFormat::Text => {
                let client = line.client.map_or_else(|| "-".into(), |client| client.to_string());
                let cluster = if line.cluster.is_empty() { "-" } else { line.cluster };
                format!(
                    "{} {} {} {cluster} {client} {} {:.6} {} {} {}",
                    line.timestamp,
                    line.protocol,
                    line.listener,
                    line.backend.unwrap_or("-"),
                    line.duration_seconds,
                    line.bytes_to_backend,
                    line.bytes_from_backend,
                    line.end
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_where_how_long_and_why() {
        let mut entry = Entry {
            protocol: "tcp",
            listener: "db".into(),
            cluster: "main".into(),
            client: Some(([127, 0, 0, 1], 4711).into()),
            backend: Some("10.0.0.1:5432".into()),
            ended: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            lasted: Duration::from_micros(1_234_567),
            moved: Moved { to_backend: 10, from_backend: 20 },
            end: End::Finished,
        };
        assert_eq!(
            entry.line(LogFormat::Text),
            "1970-01-01T00:00:01.500Z tcp db main 127.0.0.1:4711 10.0.0.1:5432 1.234567 10 20 finished"
        );
        assert_eq!(
            entry.line(LogFormat::Json),
            r#"{"timestamp":"1970-01-01T00:00:01.500Z","protocol":"tcp","listener":"db","cluster":"main","client":"127.0.0.1:4711","backend":"10.0.0.1:5432","duration_seconds":1.234567,"bytes_to_backend":10,"bytes_from_backend":20,"end":"finished"}"#
        );
        (entry.cluster, entry.client, entry.backend) = ("".into(), None, None);
        let line = entry.line(LogFormat::Text);
        assert!(line.contains(" tcp db - - - 1.234567 "), "{line}");
    }
}
