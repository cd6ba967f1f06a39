//! `outrigger run`: the sidecar, until a signal stops it.

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, FileArg, block_on};
use crate::app::Sidecar;
use crate::telemetry;

pub(super) fn run(file: &FileArg) -> Result<(), Failure> {
    let config = file.load()?.config;
    telemetry::log::init(&config.log);
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    raise_file_limit();
    block_on(async {
        let mut signals = Signals::new()?;
        let sidecar = Sidecar::start(&config)?;
        let control = sidecar.control.as_ref().map_or("off".into(), ToString::to_string);
        let (version, admin) = (env!("CARGO_PKG_VERSION"), &sidecar.admin);
        tracing::info!(version, %admin, control, "started");
        for (listener, address) in &sidecar.listeners {
            tracing::info!(%listener, %address, "listening");
        }
        signals.next().await;
        tokio::select! {
            finished = sidecar.stop() => match finished {
                true => Ok(()),
                false => Err(Failure::Failed("stopped with requests unfinished".into())),
            },
            () = signals.next() => Err(Failure::Failed("stopped at once by a second signal".into())),
        }
    })
}

/// Raises the limit on open files to what the system allows. The usual 1,024 is for the sake of
/// programs that use select(2), and so few that a handful of slow peers could use them up.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}

/// The signals that ask for an end.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
