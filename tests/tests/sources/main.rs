//! Files as a source, several sources for one cluster, and what is remembered on disk.

mod file;
mod memory;
mod several;
