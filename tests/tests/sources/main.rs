//! Files as a source, several sources for one cluster, and what is remembered on disk.

mod file;
mod kept;
mod memory;
mod several;
