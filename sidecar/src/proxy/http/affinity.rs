//! What keeps a client at one backend: where a request says that it belongs, and what its answer
//! says where it belongs from now on.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cookie;
use super::h1::fields::{Fields, Kind};
use crate::cluster::affinity::{Invalid, Verified};
use crate::cluster::{Key, Pick};
use crate::config::AffinityKey;
use crate::proxy::cluster::LocalCluster;
use crate::telemetry::metrics::AffinityResult;

/// Cookies of our name that are looked at in one request: the first that is valid counts.
const MAX_COOKIES: usize = 8;

/// Where a request belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Affinity {
    pub(super) key: Key,
    said: Said,
}

#[derive(Debug, Clone, Copy)]
enum Said {
    /// The cluster has no affinity, or the request has no key.
    Nothing,
    NoCookie,
    Cookie(Verified),
    BadCookie(Invalid),
    Key,
    /// The app has bound its key to a backend.
    Pinned,
}

impl Affinity {
    const NONE: Self = Self { key: Key::None, said: Said::Nothing };

    /// What a request from `client` with these fields says.
    pub(super) fn of(
        cluster: &LocalCluster,
        fields: Fields<'_>,
        client: impl FnOnce() -> Option<IpAddr>,
    ) -> Self {
        let settings = &cluster.settings().affinity;
        let said = || said(fields, &settings.header);
        if let Some(key) = cluster.pinned(said) {
            return Self { key, said: Said::Pinned };
        }
        match &settings.key {
            AffinityKey::None => Self::NONE,
            AffinityKey::Cookie(name) => Self::of_cookies(cluster, fields, name),
            AffinityKey::Header { .. } => Self::by_key(cluster.client_key(said(), None)),
            AffinityKey::SourceIp { .. } => Self::by_key(cluster.client_key(None, client())),
        }
    }

    fn by_key(key: Key) -> Self {
        if key == Key::None { Self::NONE } else { Self { key, said: Said::Key } }
    }

    fn of_cookies(cluster: &LocalCluster, fields: Fields<'_>, name: &str) -> Self {
        let nothing = Self { key: Key::None, said: Said::NoCookie };
        let Some(keyring) = cluster.cluster.keyring.as_ref() else { return nothing };
        if !fields.has(Kind::Cookie) {
            return nothing;
        }
        let now = unix_seconds();
        let mut worst = nothing;
        let values = cookie::find(fields.values(Kind::Cookie), name.as_bytes());
        for value in values.take(MAX_COOKIES) {
            match keyring.verify(cluster.cluster.name(), value, now) {
                Ok(said) => return Self { key: Key::Tag(said.tag), said: Said::Cookie(said) },
                Err(invalid) => worst.said = Said::BadCookie(invalid),
            }
        }
        // A name that no backend has: whoever is strict finds it refused.
        if cluster.settings().affinity.strict && matches!(worst.said, Said::BadCookie(_)) {
            worst.key = Key::Tag(0);
        }
        worst
    }

    /// The backend that was picked has answered. Counts what that means, remembers it where keys
    /// are learned, and writes the cookie into `set_cookie` where the client needs another.
    pub(super) fn settle(
        &self,
        cluster: &LocalCluster,
        pick: &Pick,
        secure: bool,
        set_cookie: &mut Vec<u8>,
    ) {
        let stayed = pick.stayed;
        let result = match (self.said, self.key) {
            (Said::Nothing, _) => return,
            _ if stayed => AffinityResult::Hit,
            (Said::NoCookie, _) => AffinityResult::New,
            (Said::BadCookie(Invalid::Forged), _) => AffinityResult::Forged,
            (Said::BadCookie(Invalid::Expired), _) => AffinityResult::Expired,
            (Said::Cookie(_) | Said::Pinned, _) => AffinityResult::Moved,
            (Said::Key, key) => cluster.settle(key, pick),
        };
        cluster.metrics().affinity(result).increment(1);
        if let AffinityKey::Cookie(name) = &cluster.settings().affinity.key
            // What the app has bound is nothing for browsers to remember.
            && !matches!(self.said, Said::Pinned)
            && !(stayed && self.is_fresh(cluster.settings().affinity.ttl))
        {
            bake(cluster, name, pick, secure, set_cookie);
        }
    }

    /// Whether the cookie that the client has need not be renewed yet: it is of the current secret,
    /// and less than half of its time is over, or it has no end as new ones have none.
    fn is_fresh(&self, ttl: Option<Duration>) -> bool {
        let Said::Cookie(said) = self.said else { return false };
        let left = said.expires.saturating_sub(unix_seconds());
        let young = match ttl {
            Some(ttl) => left > ttl.as_secs() / 2,
            None => said.expires == 0,
        };
        said.key == 0 && young
    }
}

/// The key that a request carries. An empty one tells nobody from anybody.
fn said<'r>(fields: Fields<'r>, name: &str) -> Option<&'r [u8]> {
    let named = |field: &[u8]| field.eq_ignore_ascii_case(name.as_bytes());
    let field = fields.iter().find(|field| named(field.name));
    field.map(|field| field.value).filter(|value| !value.is_empty())
}

fn bake(cluster: &LocalCluster, name: &str, pick: &Pick, secure: bool, out: &mut Vec<u8>) {
    let (Some(keyring), Some(tags)) = (&cluster.cluster.keyring, pick.backend.tags) else {
        return;
    };
    let ttl = cluster.settings().affinity.ttl.map(|ttl| ttl.as_secs().max(1));
    let expires = ttl.map_or(0, |ttl| unix_seconds() + ttl);
    let token = keyring.sign(cluster.cluster.name(), tags.signing(), expires);
    cookie::set_cookie(out, name, &token, ttl, secure);
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
