//! The command line: one file per command.

mod affinity;
mod backend;
mod check;
mod client;
mod completions;
mod config;
mod demo;
mod drain;
mod events;
mod explain;
mod resume;
mod run;
mod status;
mod top;
mod weight;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::app::StartError;
use crate::config::{DurationText, Loaded, Place, Problem, Problems, load};
use crate::control::tokens::BadTokens;
use crate::net::tls::TlsError;
use crate::state::StateError;
use crate::tls::Unloadable;

/// A client-side load-balancing sidecar.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar
    Run(FileArg),
    /// Validate a configuration file
    Check(check::Check),
    /// Run an embedded DNS server, demo backends and a sidecar before them
    Demo(demo::Demo),
    /// Show the clusters and backends of a running sidecar
    Status(status::Status),
    /// Show clusters, backends and what goes to them, live
    Top(top::Top),
    /// Show what has happened to clusters and backends, and why
    Events(events::Events),
    /// Take a backend out of use: no new work, and what it has may finish
    Drain(drain::Drain),
    /// Bring a drained backend back
    Resume(resume::Resume),
    /// Give a backend another weight than discovery does
    Weight(weight::Weight),
    /// Bind a key to a backend, see where one leads, or take that back
    Affinity(affinity::Affinity),
    /// Show who would be picked now, and why every other backend would not
    Explain(explain::Explain),
    /// Show the schema of the configuration, or the effective configuration
    Config(config::ConfigCommand),
    /// Print the completion script of a shell
    Completions(completions::Completions),
}

/// An argument that is a length of time.
fn duration(text: &str) -> Result<DurationText, String> {
    let duration = DurationText(text.into());
    match duration.parse() {
        Some(_) => Ok(duration),
        None => Err(format!("accepted: {}", DurationText::ACCEPTS)),
    }
}

/// The configuration that a command works on.
#[derive(Debug, Args)]
struct FileArg {
    /// Configuration file: TOML, or YAML or JSON by its ending
    #[arg(short, long = "config", env = "OUTRIGGER_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

impl FileArg {
    fn load(&self) -> Result<Loaded, Failure> {
        load(&self.config).map_err(Failure::Config)
    }
}

/// Why a command failed; each kind has an exit code of its own.
#[derive(Debug)]
enum Failure {
    /// 1: it did not work, or what was asked about is not healthy.
    Failed(String),
    /// 3: no sidecar answers there.
    Unreachable(String),
    /// 78: the configuration is wrong.
    Config(Problems),
}

impl Failure {
    fn report(self) -> ExitCode {
        match self {
            Self::Failed(message) => {
                eprintln!("outrigger: {message}");
                ExitCode::from(1)
            }
            Self::Unreachable(message) => {
                eprintln!("outrigger: {message}");
                ExitCode::from(3)
            }
            Self::Config(problems) => {
                eprintln!("{problems}");
                ExitCode::from(78)
            }
        }
    }
}

impl From<StateError> for Failure {
    /// A file with secrets is part of the configuration.
    fn from(error: StateError) -> Self {
        match error {
            StateError::File { path, line, message } => {
                let place = Place::File { path: path.display().to_string(), line };
                let problem = Problem { place, key: "affinity".into(), message };
                Self::Config(Problems(vec![problem]))
            }
            StateError::Random(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<BadTokens> for Failure {
    /// So are tokens.
    fn from(BadTokens { path, line, message }: BadTokens) -> Self {
        let place = Place::File { path: path.display().to_string(), line };
        Self::Config(Problems(vec![Problem { place, key: "control.token_file".into(), message }]))
    }
}

impl From<Unloadable> for Failure {
    /// Certificates and keys are part of the configuration.
    fn from(unloadable: Unloadable) -> Self {
        let problem = |(key, error)| {
            let (path, message) = match error {
                TlsError::File { path, reason } => (path.display().to_string(), reason),
                TlsError::System(reason) => ("the system's certificates".into(), reason),
                TlsError::Rustls(error) => ("rustls".into(), error.to_string()),
            };
            Problem { place: Place::File { path, line: None }, key, message }
        };
        Self::Config(Problems(unloadable.0.into_iter().map(problem).collect()))
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::State(error) => error.into(),
            StartError::Tls(unloadable) => unloadable.into(),
            StartError::Tokens(bad) => bad.into(),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Cli {
    /// Runs the command to its end.
    pub fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Run(file) => run::run(&file),
            Command::Check(check) => check.run(),
            Command::Demo(demo) => demo.run(),
            Command::Status(status) => status.run(),
            Command::Top(top) => top.run(),
            Command::Events(events) => events.run(),
            Command::Drain(drain) => drain.run(),
            Command::Resume(resume) => resume.run(),
            Command::Weight(weight) => weight.run(),
            Command::Affinity(affinity) => affinity.run(),
            Command::Explain(explain) => explain.run(),
            Command::Config(config) => config.run(),
            Command::Completions(completions) => completions.run(),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        }
    }
}

/// The runtime of a command, and the control thread of a sidecar.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(work);
    // A resolver or renderer that still runs holds up nobody.
    runtime.shutdown_background();
    done
}

/// A document for programs.
fn to_json(view: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(view);
    Ok(text.map_err(|e| Failure::Failed(e.to_string()))? + "\n")
}

/// Writes a result to stdout. A reader that has gone, such as `head`, is no error.
fn print(text: &str) -> Result<(), Failure> {
    reaches_reader(text).map(drop)
}

/// As [`print()`]; false when the reader has gone, so that more is of no use.
fn reaches_reader(text: &str) -> Result<bool, Failure> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        written => Ok(written.map(|()| true)?),
    }
}
