//! Small files: whole under their names, whoever is killed while they are written, and read without
//! waiting for anybody.
//!
//! A file is written beside its place, as a draft, and gets its name when all of it is on disk.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

/// Nobody takes so long to write a draft: whoever began one that is older was killed.
const ABANDONED: Duration = Duration::from_secs(60);

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is not a regular file")]
    NotAFile,
    #[error("it is longer than {0} bytes")]
    TooLong(u64),
}

/// Reads a file of at most so many bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Unreadable> {
    let (file, _) = open(path)?;
    read_from(file, limit)
}

/// Reads what was opened, at most so many bytes.
pub fn read_from(file: File, limit: u64) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = Vec::new();
    // One byte more than is accepted shows that there is more.
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(Unreadable::TooLong(limit)) } else { Ok(bytes) }
}

/// Opens a file to be read, with the facts about what was opened. A pipe is not waited for, whoever
/// puts it there and when.
pub fn open(path: &Path) -> Result<(File, Metadata), Unreadable> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let facts = file.metadata()?;
    if facts.is_file() { Ok((file, facts)) } else { Err(Unreadable::NotAFile) }
}

/// What a look at a file sees, links followed: enough to know whether there is anything new to be
/// read, whether it was written in place, renamed over, or is behind a link that was turned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Looks at a file without reading it.
pub fn look(path: &Path) -> io::Result<Seen> {
    let facts = fs::metadata(path)?;
    Ok(Seen {
        device: facts.dev(),
        inode: facts.ino(),
        size: facts.size(),
        modified: (facts.mtime(), facts.mtime_nsec()),
        changed: (facts.ctime(), facts.ctime_nsec()),
    })
}

/// What is to be a file, on disk, without its name yet. One that never gets it goes.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    draft: PathBuf,
}

impl Draft {
    /// Writes what is to be at `path`, for its owner alone, and makes the directory if need be.
    pub fn write(path: &Path, text: &[u8]) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir_of(path))?;
        // At random, since processes that share a directory may share their ids too, each being
        // the first in a container of its own.
        let draft = dir_of(path).join(format!("{}{:032x}", prefix_of(path), random()?));
        let draft = Self { path: path.into(), draft };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.draft)?;
        file.write_all(text)?;
        file.sync_all()?;
        Ok(draft)
    }

    /// Takes the place of the file that has the name, if there is one.
    pub fn replace(self) -> io::Result<()> {
        fs::rename(&self.draft, &self.path)?;
        self.sync_name()
    }

    /// Takes the name if it is free: of several that want it at once, the first has it, and the
    /// others get `AlreadyExists`.
    pub fn claim(&self) -> io::Result<()> {
        fs::hard_link(&self.draft, &self.path)
    }

    /// A name is on disk when its directory is.
    pub fn sync_name(&self) -> io::Result<()> {
        File::open(dir_of(&self.path))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // One that stays does no harm, and is swept up by the next start.
        let _ = fs::remove_file(&self.draft);
    }
}

/// Removes the drafts for `path` of processes that were killed while they wrote.
pub fn sweep(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir_of(path))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix_of(path)) {
            // One that has just got its name is nobody's leftover.
            let Ok(written) = entry.metadata().and_then(|facts| facts.modified()) else { continue };
            if written.elapsed().is_ok_and(|age| age >= ABANDONED) {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

fn dir_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn prefix_of(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().display())
}

fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(name).collect();
        names.sort();
        names.into_iter().map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_for_its_owner_and_nothing_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/api.json");
        Draft::write(&path, b"one").unwrap().replace().unwrap();
        drop(Draft::write(&path, b"never").unwrap());
        Draft::write(&path, b"two").unwrap().replace().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(dir_of(&path))), (0o600, 0o700));
        assert_eq!(names(dir_of(&path)), ["api.json"]);
    }

    #[test]
    fn the_first_to_claim_a_name_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        Draft::write(&path, b"one").unwrap().claim().unwrap();
        let second = Draft::write(&path, b"two").unwrap().claim().unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(dir.path()), ["secret"]);
    }

    #[test]
    fn what_cannot_have_its_name_leaves_no_draft() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.json");
        fs::create_dir_all(path.join("full")).unwrap();
        assert!(Draft::write(&path, b"one").unwrap().replace().is_err());
        assert_eq!(names(dir.path()), ["api.json"]);
    }

    #[test]
    fn drafts_of_the_killed_are_swept_up_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.json");
        let old = SystemTime::now() - ABANDONED;
        for (name, written) in [
            (".api.json.1", old),
            (".api.json.2", SystemTime::now()),
            (".apis.json.3", old),
            ("api.json", old),
            ("api.json.bad", old),
        ] {
            File::create(dir.path().join(name)).unwrap().set_modified(written).unwrap();
        }
        sweep(&path).unwrap();
        let stay = [".api.json.2", ".apis.json.3", "api.json", "api.json.bad"];
        assert_eq!(names(dir.path()), stay);
    }

    #[test]
    fn what_is_no_file_or_too_long_is_not_read_and_nobody_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let said = |path: &Path| read(path, 4).unwrap_err().to_string();
        assert!(said(&path).contains("No such file"));
        fs::write(&path, "four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"four");
        fs::write(&path, "five!").unwrap();
        assert_eq!(said(&path), "it is longer than 4 bytes");
        assert_eq!(said(dir.path()), "it is not a regular file");
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert_eq!(said(&pipe), "it is not a regular file");
    }
}
