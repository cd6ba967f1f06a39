//! A question that is asked again and again: each time from the index of the last answer, with the
//! token that holds then, and at a pace that spares Consul.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, sleep};

use super::Consul;
use super::client::{Connection, ConsulError, Question, Reply};
use super::pace::{Pace, next_index};
use crate::config;

/// What does not wait for news is asked this often, less up to a tenth.
const EVERY: Duration = Duration::from_secs(10);
/// Denied access is said aloud again after this.
const DENIED_AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Asking<'c> {
    consul: &'c Consul,
    /// Whether Consul waits with its answer until there is news; prepared queries do not.
    waits: bool,
    /// That of the last answer; 0 waits for nothing.
    index: u64,
    kept: Option<Connection>,
    pace: Pace,
    denied: Option<Instant>,
    rng: fastrand::Rng,
}

impl<'c> Asking<'c> {
    pub(super) fn new(consul: &'c Consul, waits: bool) -> Self {
        Self {
            consul,
            waits,
            index: 0,
            kept: None,
            pace: Pace::new(Instant::now()),
            denied: None,
            rng: fastrand::Rng::new(),
        }
    }

    /// The next answer; `path` is given the index that it is to differ from.
    pub(super) async fn ask(
        &mut self,
        path: impl Fn(Option<u64>) -> String,
    ) -> Result<Reply, ConsulError> {
        let consul = self.consul;
        loop {
            let index = (self.waits && self.index > 0).then_some(self.index);
            let path = path(index);
            let token = consul.token.read();
            let wait = index.map(|_| consul.settings.wait);
            let question = Question::get(&path, token.clone(), wait);
            tokio::select! {
                answer = consul.client.ask(&mut self.kept, question) => return answer,
                // What the old token may not see is asked again with the new one.
                () = consul.token.replaced(token.as_deref()) => self.begin_anew(),
            }
        }
    }

    /// The answer was one: the next question follows when it may.
    pub(super) async fn answered(&mut self, reply: &Reply) {
        let earliest = self.pace.answered(Instant::now());
        if self.waits {
            let header = reply.headers.get("x-consul-index");
            self.index = next_index(self.index, header.and_then(|value| value.to_str().ok()));
            sleep(earliest).await;
        } else {
            sleep(EVERY.mul_f64(1.0 - 0.1 * self.rng.f64())).await;
        }
    }

    /// There was none, or one that cannot be used.
    pub(super) async fn failed(&mut self, error: &ConsulError) {
        self.say_denied(error);
        self.begin_anew();
        sleep(self.pace.failed(error, Instant::now())).await;
    }

    fn begin_anew(&mut self) {
        (self.index, self.kept) = (0, None);
    }

    /// That access is denied does not pass by itself.
    fn say_denied(&mut self, error: &ConsulError) {
        let denied = matches!(error, ConsulError::Refused { status, .. } if status.as_u16() == 403);
        if denied && self.denied.is_none_or(|at| at.elapsed() >= DENIED_AGAIN) {
            self.denied = Some(Instant::now());
            tracing::error!("{error}: does consul.token_file have the right token?");
        }
    }
}

/// What every question says: where, and whether any server may answer.
pub(super) fn parameters(datacenter: Option<&str>, namespace: Option<&str>, stale: bool) -> String {
    let mut query = String::from(if stale { "stale" } else { "" });
    for (key, value) in [("dc", datacenter), ("ns", namespace)] {
        if let Some(value) = value {
            query += &format!("&{key}={}", encoded(value));
        }
    }
    query
}

/// The index that an answer is to differ from, and for how long that is waited for.
pub(super) fn waiting(settings: &config::Consul, index: Option<u64>) -> String {
    let wait = settings.wait.as_millis();
    index.map(|index| format!("&index={index}&wait={wait}ms")).unwrap_or_default()
}

pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
