//! `outrigger demo`: everything on one machine, in one process, and a short story about it.

mod authority;
mod backend;
mod story;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::run::Signals;
use super::{Failure, block_on, print};
use crate::app::Sidecar;
use crate::config::load_text;
use crate::net::Address;
use authority::Authority;
use backend::Backend;
use story::Story;

const DOMAIN: &str = "demo.test";
const SERVICE: &str = "_web._tcp.demo.test";
/// Weights of the backends that are there from the start, and of the one that joins.
const WEIGHTS: [u16; 3] = [60, 30, 10];
const JOINING: u16 = 100;

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// End by itself after this long, even on a terminal
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
}

impl Demo {
    pub(super) fn run(&self) -> Result<(), Failure> {
        block_on(async {
            let started = Instant::now();
            let mut signals = Signals::new()?;
            tokio::select! {
                told = self.play(started) => told,
                () = signals.next() => Ok(()),
            }
        })
    }

    /// Tells the story, then stays for whoever wants to look around.
    async fn play(&self, started: Instant) -> Result<(), Failure> {
        let authority = Authority::start().await?;
        let mut backends = Vec::new();
        for name in ["one", "two", "three", "four"] {
            backends.push(Backend::start(name).await?);
        }
        for (backend, weight) in backends.iter().zip(WEIGHTS) {
            authority.add(&backend.name, backend.address, weight).await?;
        }

        let (sidecar, file) = start_sidecar(&authority).await?;
        let url = sidecar.listeners.first().map(|(_, address)| address.to_string());
        let url = url.unwrap_or_default();
        print(&introduction(&sidecar.admin, &url, &authority, &file))?;

        let mut story = Story::new(&url, &sidecar.admin)?;
        let told = story.tell(&authority, &mut backends).await;
        if told.is_ok() {
            self.stay(started, &mut story).await?;
        }
        sidecar.stop().await;
        told
    }

    /// With a terminal there is somebody to try things; without, the demo is over.
    async fn stay(&self, started: Instant, story: &mut Story) -> Result<(), Failure> {
        if let Some(duration) = self.duration {
            tokio::time::sleep_until(started + duration).await;
        } else if std::io::stdout().is_terminal() {
            print("\nAll of it keeps running; Ctrl-C ends it.\n")?;
            story.keep_talking().await;
        }
        Ok(())
    }
}

/// The ports of the documentation where they are free, others where they are not.
async fn start_sidecar(authority: &Authority) -> Result<(Sidecar, String), Failure> {
    let mut error = None;
    for (listen, admin) in [("127.0.0.1:8080", "127.0.0.1:9910"), ("127.0.0.1:0", "127.0.0.1:0")] {
        let file = configuration(listen, admin, &authority.address.to_string());
        let config = load_text("demo.toml".as_ref(), &file).map_err(Failure::Config)?.config;
        match Sidecar::start(&config) {
            Ok(sidecar) => return Ok((sidecar, file)),
            Err(e) => error = Some(Failure::Failed(e.to_string())),
        }
    }
    Err(error.unwrap_or_else(|| Failure::Failed("the sidecar did not start".into())))
}

fn configuration(listen: &str, admin: &str, nameserver: &str) -> String {
    format!(
        r#"[admin]
listen = "{admin}"
[control]
listen = "off"

[dns]
nameservers = ["{nameserver}"]

[listeners.web]
listen = "{listen}"
cluster = "web"

[clusters.web.discovery]
source = "dns_srv"
name = "{SERVICE}"

[clusters.web.health]
probe = "http"
interval = "1s"
"#
    )
}

fn introduction(admin: &Address, url: &str, authority: &Authority, file: &str) -> String {
    let indented: String = file.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "Outrigger demo: a DNS server, four backends and a sidecar, all on 127.0.0.1.\n\n\
         The sidecar runs with this configuration:\n\n{indented}\n\
         Try, from another terminal:\n\n    \
         curl -i http://{url}/\n    \
         dig @{} -p {} {SERVICE} SRV\n    \
         curl http://{admin}/api/v1/clusters\n    \
         curl http://{admin}/metrics\n    \
         outrigger status --admin {admin}\n\n",
        authority.address.ip(),
        authority.address.port(),
    )
}
