//! Cookies that nobody here has signed, and ones that are no good any more: they choose nothing and
//! cost nothing.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use outrigger_tests::backend::{Backend, endpoints};
use outrigger_tests::sidecar::Sidecar;

use crate::world::{COOKIE, Caller, RESULTS, Visit, backends, sticky};

/// Of each kind.
const COUNT: usize = 1_112;
const SECRET: &str = "a secret that the two clusters share";

/// What some bad cookies are, what they count as, and each by its number.
type Kind<'a> = (&'static str, &'static str, Box<dyn FnMut(usize) -> String + 'a>);

/// Nine kinds, over 10,000 cookies. Turns are taken: a client that is sent somewhere by what its
/// cookie says breaks their order, so that shares that are equal to one prove that none was.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_bad_cookies_choose_nothing_and_fail_nothing() {
    let all: [Backend; 4] = backends().await;
    let mint = Mint::new(&all).await;
    let sidecar = Sidecar::start(&mint.config(&all, "api", "")).await;
    let mut caller = Caller::new(sidecar.web()).await;
    let valid = caller.get(&[]).await.token().to_owned();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut bad: Vec<Kind<'_>> = vec![
        ("random", "forged", Box::new(|i| random(&mut fastrand::Rng::with_seed(i as u64), 82))),
        ("truncated", "forged", Box::new(|i| valid[..i % valid.len()].to_owned())),
        ("flipped", "forged", Box::new(|_| flipped(&mut rng, &valid))),
        ("grown", "forged", Box::new(|i| format!("{valid}{}", i % 10))),
        ("of another cluster", "forged", Box::new(|i| mint.of_cluster[i % 4].clone())),
        ("of another secret", "forged", Box::new(|i| mint.of_secret[i % 4].clone())),
        ("8 KiB", "forged", Box::new(|i| random(&mut fastrand::Rng::with_seed(i as u64), 8 << 10))),
        ("expired", "expired", Box::new(|i| mint.expired[i % 4].clone())),
        ("of a backend that is gone", "moved", Box::new(|_| mint.of_stranger.clone())),
    ];
    for (kind, result, cookie) in &mut bad {
        let before = results(&sidecar).await;
        let mut answered = BTreeMap::<String, usize>::new();
        for i in 0..COUNT {
            let visit = caller.with_cookie(&cookie(i)).await;
            assert_eq!((visit.status, visit.error.as_str()), (200, ""), "{kind}");
            assert!(visit.set.is_some(), "{kind}: no new cookie");
            *answered.entry(visit.backend).or_default() += 1;
        }
        let (least, most) = (answered.values().min().unwrap(), answered.values().max().unwrap());
        assert!(answered.len() == 4 && most - least <= 1, "{kind}: {answered:?}");
        assert_counted(&sidecar, before, result, COUNT).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hundred_cookies_at_once_are_as_good_as_none_unless_one_is_valid() {
    let all: [Backend; 4] = backends().await;
    let sidecar = Sidecar::start(&sticky(&all, "by = \"cookie\"")).await;
    let mut caller = Caller::new(sidecar.web()).await;
    let first = caller.get(&[]).await;
    let junk = format!("{COOKIE}=v1.00000000.0.0000000000000000.{:032}; ", 0);
    let before = results(&sidecar).await;
    for _ in 0..40 {
        let visit = caller.get(&[("cookie", &junk.repeat(100))]).await;
        assert!(visit.status == 200 && visit.set.is_some(), "{visit:?}");
    }
    assert_counted(&sidecar, before, "forged", 40).await;
    // A browser may have an old one for another path; the first that is valid counts.
    let among = format!("{}{COOKIE}={}; a=b", junk.repeat(3), first.token());
    for _ in 0..10 {
        let visit = caller.get(&[("cookie", &among)]).await;
        assert_eq!(visit, Visit { set: None, ..first.clone() });
    }
}

/// Makes cookies that are good elsewhere.
struct Mint {
    _dir: tempfile::TempDir,
    secret: String,
    of_cluster: Vec<String>,
    of_secret: Vec<String>,
    expired: Vec<String>,
    of_stranger: String,
}

impl Mint {
    async fn new(all: &[Backend]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, SECRET).unwrap();
        let mut mint = Self {
            _dir: dir,
            secret: format!("[affinity]\nsecret_file = {:?}\n", file.display().to_string()),
            of_cluster: Vec::new(),
            of_secret: Vec::new(),
            expired: Vec::new(),
            of_stranger: String::new(),
        };
        mint.of_cluster = tokens(&mint.config(all, "web", "cookie = \"LB_SESSION_api\"")).await;
        mint.of_secret = tokens(&sticky(all, "by = \"cookie\"")).await;
        let stranger = [Backend::start().await];
        mint.of_stranger = tokens(&mint.config(&stranger, "api", "")).await.swap_remove(0);
        mint.expired = tokens(&mint.config(all, "api", "ttl = \"1s\"")).await;
        // They are of this second or the last, and good for one.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let next = outrigger_tests::secs(now.as_secs() + 1);
        tokio::time::sleep(next - now).await;
        mint
    }

    /// A cluster of this name whose cookies are signed with the secret.
    fn config(&self, backends: &[Backend], cluster: &str, affinity: &str) -> String {
        let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
        format!(
            "[listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"{cluster}\"\n\
             [clusters.{cluster}.affinity]\nby = \"cookie\"\n{affinity}\n\
             [clusters.{cluster}.discovery]\nsource = \"static\"\nendpoints = [{}]\n\
             [runtime]\nworkers = 1\n{}",
            endpoints(&addresses),
            self.secret
        )
    }
}

/// A cookie for each of four turns.
async fn tokens(config: &str) -> Vec<String> {
    let sidecar = Sidecar::start(config).await;
    let mut caller = Caller::new(sidecar.web()).await;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(caller.get(&[]).await.token().to_owned());
    }
    tokens
}

/// Characters that a cookie's value may have (RFC 6265, section 4.1.1).
fn may_be_in_a_cookie(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'+' | b'-'..=b':' | b'<'..=b'[' | b']'..=b'~')
}

fn random(rng: &mut fastrand::Rng, length: usize) -> String {
    let mut byte =
        || std::iter::repeat_with(|| rng.u8(..)).find(|b| may_be_in_a_cookie(*b)).unwrap();
    (0..length).map(|_| char::from(byte())).collect()
}

/// The token with one bit turned over.
fn flipped(rng: &mut fastrand::Rng, token: &str) -> String {
    let mut bytes = token.as_bytes().to_vec();
    loop {
        let (at, bit) = (rng.usize(..bytes.len()), 1 << rng.u8(..7));
        if may_be_in_a_cookie(bytes[at] ^ bit) {
            bytes[at] ^= bit;
            return String::from_utf8(bytes).unwrap();
        }
    }
}

async fn results(sidecar: &Sidecar) -> Vec<f64> {
    let mut counted = Vec::new();
    for result in RESULTS {
        counted.push(sidecar.metric("outrigger_affinity_total", &[("result", result)]).await);
    }
    counted
}

/// Nothing but `result` has been counted since `before`, and that so often.
async fn assert_counted(sidecar: &Sidecar, before: Vec<f64>, result: &str, times: usize) {
    let after = results(sidecar).await;
    for (i, name) in RESULTS.iter().enumerate() {
        let expected = if *name == result { times as f64 } else { 0.0 };
        assert_eq!(after[i] - before[i], expected, "{name}, where {result} is expected");
    }
}
