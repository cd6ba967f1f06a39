//! `GET /api/v1/events`: what has happened to clusters and backends, and why.
//!
//! `?cluster=NAME` is for one cluster, `?after=ID` for what is new since an answer, and with
//! `&wait=30s` the answer waits for so long until there is something.

use std::time::Duration;

use http::StatusCode;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::{Admin, Reply, error, json};
use crate::cluster::{Happened, rfc3339};
use crate::config::DurationText;
use crate::shutdown::Phase;

/// No answer waits longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize, Deserialize)]
pub struct EventsView {
    /// The oldest first.
    pub events: Vec<EventView>,
    /// The id of the latest event there is, of whatever cluster: what to ask `after` next time.
    pub latest: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct EventView {
    /// Counts up by one with every event of the sidecar, from 1.
    pub id: u64,
    /// RFC 3339.
    pub at: String,
    pub cluster: String,
    /// null: it concerns the cluster as a whole.
    pub backend: Option<String>,
    /// `joined`, `removed`, `suspect`, `returned`, `healthy`, `unhealthy`, `ejected`, `recovered`,
    /// `stalled`, `draining`, `drained`, `resumed`, `weight`, `discovery_failed`,
    /// `discovery_answered`, `source`, `panic` or `panic_over`.
    pub kind: String,
    pub cause: String,
    /// The kind of the source that the cluster's backends are from.
    pub source: String,
}

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Question {
    cluster: Option<String>,
    after: u64,
    wait: Duration,
}

pub(super) async fn show(admin: &Admin, query: &str) -> Reply {
    let question = match Question::parse(query) {
        Ok(question) => question,
        Err(message) => return error(StatusCode::BAD_REQUEST, "invalid_argument", &message),
    };
    if let Some(cluster) = &question.cluster
        && !admin.clusters.iter().any(|known| known.name() == *cluster)
    {
        let message = format!("no cluster is called {cluster:?}");
        return error(StatusCode::NOT_FOUND, "not_found", &message);
    }
    json(StatusCode::OK, &question.answer(admin).await)
}

impl Question {
    fn parse(query: &str) -> Result<Self, String> {
        let mut question = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
            let wrong = |accepted: &str| format!("{key}: got {value:?}; accepted: {accepted}");
            match key {
                "cluster" => question.cluster = Some(value),
                "after" => {
                    question.after = value.parse().map_err(|_| wrong("the id of an event"))?;
                }
                "wait" => {
                    let wait = DurationText(value.clone()).parse();
                    let wait = wait.ok_or_else(|| wrong(DurationText::ACCEPTS))?;
                    question.wait = wait.min(LONGEST_WAIT);
                }
                _ => {
                    return Err(format!(
                        "{key:?} is not asked for; accepted: cluster, after, wait"
                    ));
                }
            }
        }
        Ok(question)
    }

    async fn answer(&self, admin: &Admin) -> EventsView {
        let mut phases = admin.phase.clone();
        let enough = async {
            tokio::select! {
                () = tokio::time::sleep(self.wait) => {}
                _ = phases.wait_for(|phase| *phase > Phase::Running) => {}
            }
        };
        let (events, latest) =
            admin.history.news(self.after, self.cluster.as_deref(), enough).await;
        EventsView { events: events.into_iter().map(EventView::of).collect(), latest }
    }
}

impl EventView {
    fn of(happened: Happened) -> Self {
        Self {
            id: happened.number,
            at: rfc3339(happened.at),
            cluster: happened.cluster.to_string(),
            backend: happened.backend.map(|backend| backend.to_string()),
            kind: happened.kind.name().into(),
            cause: happened.cause,
            source: happened.source.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_understood_or_refused() {
        let expected =
            Question { cluster: Some("api".into()), after: 7, wait: Duration::from_secs(5) };
        assert_eq!(Question::parse("cluster=api&after=7&wait=5s"), Ok(expected));
        assert_eq!(Question::parse(""), Ok(Question::default()));
        assert_eq!(Question::parse("wait=5h").unwrap().wait, LONGEST_WAIT);
        for wrong in ["after=x", "after=-1", "wait=5", "clusters=api", "after"] {
            assert!(Question::parse(wrong).is_err(), "{wrong}");
        }
    }
}
