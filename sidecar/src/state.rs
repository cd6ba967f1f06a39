//! What outlives a restart: the secret behind affinity cookies.
//!
//! A secret that ends with the process would make every cookie a forged one at each restart, and
//! send every session to another backend. So it comes from a file, the same on every instance, or
//! is made once and kept in `runtime.state_dir`.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::cluster::affinity::{Keyring, keyring};
use crate::config::Config;
use crate::disk::{self, Draft, Unreadable};

/// What the file in the state directory is called.
const FILE: &str = "affinity.secret";

/// Where the secret comes from that signs affinity cookies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFrom {
    /// The file that the configuration names.
    File(PathBuf),
    /// The file in the state directory, where it is made if it is not there.
    StateDir(PathBuf),
    /// Nowhere: it is made at every start.
    Memory,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{}{}: {message}", path.display(), line.map(|n| format!(":{n}")).unwrap_or_default())]
    File { path: PathBuf, line: Option<usize>, message: String },
    #[error("the system has no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

/// The secrets that this configuration asks for, and where they are from. One is made if there is
/// none; of several sidecars that start together in one state directory, all get the same.
pub fn load_keyring(config: &Config) -> Result<(Keyring, SecretFrom), StateError> {
    let from = SecretFrom::of(config);
    let keyring = match &from {
        SecretFrom::File(path) => read(path)?,
        SecretFrom::StateDir(path) => {
            if !exists(path)? {
                create(path)?;
            }
            read(path)?
        }
        SecretFrom::Memory => parse(Path::new("memory"), random_secret()?.as_bytes())?,
    };
    Ok((keyring, from))
}

/// As [`load_keyring`], but nothing is made: for whoever only wants to know.
pub fn check_keyring(config: &Config) -> Result<SecretFrom, StateError> {
    let from = SecretFrom::of(config);
    match &from {
        SecretFrom::File(path) => drop(read(path)?),
        SecretFrom::StateDir(path) if exists(path)? => drop(read(path)?),
        SecretFrom::StateDir(_) | SecretFrom::Memory => {}
    }
    Ok(from)
}

impl SecretFrom {
    fn of(config: &Config) -> Self {
        match (&config.affinity.secret_file, &config.runtime.state_dir) {
            (Some(file), _) => Self::File(file.clone()),
            (None, Some(dir)) => Self::StateDir(dir.join(FILE)),
            (None, None) => Self::Memory,
        }
    }
}

impl Display for SecretFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "affinity cookies are signed with ")?;
        match self {
            Self::File(path) => write!(f, "the secret in {}", path.display())?,
            Self::StateDir(path) => write!(f, "this instance's secret in {}", path.display())?,
            Self::Memory => {
                return write!(f, "a secret in memory: cookies end with this process");
            }
        }
        write!(f, " and survive a restart")
    }
}

fn exists(path: &Path) -> Result<bool, StateError> {
    path.try_exists().map_err(|e| failed(path, format!("cannot be read: {e}")))
}

fn read(path: &Path) -> Result<Keyring, StateError> {
    let cannot = |e: io::Error| failed(path, format!("cannot be read: {e}"));
    let (file, facts) = disk::open(path).map_err(|e| match e {
        Unreadable::Io(e) => cannot(e),
        Unreadable::NotAFile | Unreadable::TooLong(_) => failed(path, "is not a regular file"),
    })?;
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(
            "{}: others on this machine may read the affinity secret (mode {mode:04o}); 0600 keeps it",
            path.display()
        );
    }
    let mut text = Vec::new();
    // One byte more than is accepted shows that there is more.
    let limit = keyring::MAX_TEXT as u64 + 1;
    file.take(limit).read_to_end(&mut text).map_err(cannot)?;
    parse(path, &text)
}

fn parse(path: &Path, text: &[u8]) -> Result<Keyring, StateError> {
    Keyring::parse(text).map_err(|bad| StateError::File {
        path: path.into(),
        line: bad.line,
        message: bad.message,
    })
}

/// Makes the file, unless somebody else does at the same time: then that one's is used.
fn create(path: &Path) -> Result<(), StateError> {
    let cannot = |e: io::Error| failed(path, format!("cannot be made: {e}"));
    let draft = Draft::write(path, random_secret()?.as_bytes()).map_err(cannot)?;
    match draft.claim() {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(cannot(e)),
        _ => draft.sync_name().map_err(cannot),
    }
}

/// The text of a file with one secret of 256 bits.
fn random_secret() -> Result<String, StateError> {
    Ok(format!("{:032x}{:032x}\n", random()?, random()?))
}

fn random() -> Result<u128, StateError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}

fn failed(path: &Path, message: impl Into<String>) -> StateError {
    StateError::File { path: path.into(), line: None, message: message.into() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn config(secret_file: Option<&Path>, state_dir: Option<&Path>) -> Config {
        let mut config = config::load_defaults().unwrap().config;
        config.affinity.secret_file = secret_file.map(Into::into);
        config.runtime.state_dir = state_dir.map(Into::into);
        config
    }

    fn tag(keyring: &Keyring) -> u64 {
        keyring.tags("api", "10.0.0.1:80").signing()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_secret_file_is_preferred_and_never_made() {
        let dir = tempfile::tempdir().unwrap();
        let (file, state) = (dir.path().join("secret"), dir.path().join("state"));
        let config = config(Some(&file), Some(&state));
        let missing = load_keyring(&config).unwrap_err().to_string();
        assert!(missing.starts_with(&format!("{}: cannot be read: ", file.display())), "{missing}");
        fs::write(&file, SECRET).unwrap();
        let (keyring, from) = load_keyring(&config).unwrap();
        assert_eq!(tag(&keyring), tag(&Keyring::parse(SECRET.as_bytes()).unwrap()));
        assert_eq!(from, SecretFrom::File(file));
        assert!(!state.exists());
    }

    #[test]
    fn a_bad_file_is_named_with_its_line_and_what_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let said = |text: &[u8]| {
            fs::write(&file, text).unwrap();
            let said = check_keyring(&config(Some(&file), None)).unwrap_err().to_string();
            assert_eq!(load_keyring(&config(Some(&file), None)).unwrap_err().to_string(), said);
            said.strip_prefix(&file.display().to_string()).unwrap().to_owned()
        };
        let accepted = "accepted: one or two lines, each a secret of at least 32";
        let short = said(b"# mine\nhush\n");
        assert!(short.starts_with(&format!(":2: has a secret of 4 characters; {accepted}")));
        assert!(!short.contains("hush"));
        assert!(said(b"").starts_with(&format!(": holds no secret; {accepted}")));
        assert!(said(&[b'a'; 5_000]).starts_with(": is longer than 4096 bytes; "));
        let folder = check_keyring(&config(Some(dir.path()), None)).unwrap_err().to_string();
        assert!(folder.ends_with(": is not a regular file"), "{folder}");
    }

    #[test]
    fn a_secret_in_the_state_directory_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("var/state");
        let config = config(None, Some(&state));
        let file = state.join(FILE);
        assert_eq!(check_keyring(&config).unwrap(), SecretFrom::StateDir(file.clone()));
        assert!(!state.exists(), "a check makes nothing");

        let (first, from) = load_keyring(&config).unwrap();
        assert_eq!(from, SecretFrom::StateDir(file.clone()));
        assert_eq!((mode(&state), mode(&file)), (0o700, 0o600));
        assert_eq!(fs::read_to_string(&file).unwrap().trim().len(), 64);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "a draft was left");
        let (second, _) = load_keyring(&config).unwrap();
        assert_eq!(tag(&second), tag(&first));
    }

    #[test]
    fn sidecars_that_start_together_get_the_same_secret() {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let config = config(None, Some(&dir.path().join("state")));
            let start = std::sync::Barrier::new(8);
            let tags: Vec<u64> = std::thread::scope(|scope| {
                let load = || {
                    start.wait();
                    tag(&load_keyring(&config).unwrap().0)
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(tags.iter().all(|tag| *tag == tags[0]), "{tags:?}");
            assert_eq!(fs::read_dir(dir.path().join("state")).unwrap().count(), 1);
        }
    }

    /// Whoever looked before the file was there must not replace it.
    #[test]
    fn a_file_that_came_in_between_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        fs::write(&file, SECRET).unwrap();
        create(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), SECRET);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_broken_file_in_the_state_directory_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        fs::write(&file, "").unwrap();
        assert!(load_keyring(&config(None, Some(dir.path()))).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "");
    }

    #[test]
    fn without_a_place_each_start_has_a_secret_of_its_own() {
        let (first, from) = load_keyring(&config(None, None)).unwrap();
        let (second, _) = load_keyring(&config(None, None)).unwrap();
        assert_eq!(from, SecretFrom::Memory);
        assert_ne!(tag(&first), tag(&second));
    }

    #[test]
    fn it_is_said_whether_cookies_survive_a_restart() {
        let said = |from: SecretFrom| from.to_string();
        assert_eq!(
            said(SecretFrom::File("/etc/key".into())),
            "affinity cookies are signed with the secret in /etc/key and survive a restart"
        );
        assert_eq!(
            said(SecretFrom::StateDir("/var/lib/outrigger/affinity.secret".into())),
            "affinity cookies are signed with this instance's secret in \
             /var/lib/outrigger/affinity.secret and survive a restart"
        );
        assert_eq!(
            said(SecretFrom::Memory),
            "affinity cookies are signed with a secret in memory: cookies end with this process"
        );
    }
}
