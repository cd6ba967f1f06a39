//! Log lines, on stderr, so that stdout stays for results.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;

use crate::config::Log;
use crate::config::raw::{LogFormat, LogLevel};

/// Starts logging. A second call changes nothing.
pub fn init(config: &Log) {
    let level = match config.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    let _ = match config.format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.with_target(false).with_ansi(colours).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).with_target(false).try_init(),
    };
}
