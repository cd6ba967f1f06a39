//! `outrigger run`: the sidecar, until a signal stops it.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, FileArg, block_on};
use crate::app::Sidecar;
use crate::telemetry;

pub(super) fn run(file: &FileArg) -> Result<(), Failure> {
    let config = file.load()?.config;
    telemetry::log::init(&config.log);
    block_on(async {
        let mut signals = Signals::new()?;
        let sidecar = Sidecar::start(&config).map_err(|e| Failure::Failed(e.to_string()))?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), admin = %sidecar.admin, "started");
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
