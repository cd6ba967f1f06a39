//! `outrigger config`: the schema of the file, and what is in effect.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failure, print};
use crate::config::{load, load_defaults, schema};

#[derive(Debug, Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Print the file with the environment and every default applied, as TOML
    Show {
        /// Configuration file; without one, the defaults
        #[arg(short, long = "config", env = "OUTRIGGER_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl ConfigCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
        let text = match &self.command {
            What::Schema => serde_json::to_string_pretty(&schema()).map_err(|e| failed(&e))? + "\n",
            What::Show { config, json } => {
                let loaded = match config {
                    Some(path) => load(path),
                    None => load_defaults(),
                };
                let raw = loaded.map_err(Failure::Config)?.raw;
                match json {
                    true => serde_json::to_string_pretty(&raw).map_err(|e| failed(&e))? + "\n",
                    false => toml::to_string_pretty(&raw).map_err(|e| failed(&e))?,
                }
            }
        };
        print(&text)
    }
}
