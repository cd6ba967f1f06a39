//! The binary: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use outrigger::cli::Cli;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}
