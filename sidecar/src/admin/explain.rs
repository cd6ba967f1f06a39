//! `GET /api/v1/explain?cluster=NAME&key=KEY`: who would be picked now, and why every other backend would
//! not.

use http::StatusCode;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::orders::{Refused, find, invalid};
use super::{Admin, Reply, error, json};
use crate::cluster::{Clock, Cluster, Explanation, Reason};

#[derive(Debug, Serialize, Deserialize)]
pub struct ExplainView {
    pub cluster: String,
    /// The key that was asked for; null: none.
    pub key: Option<String>,
    /// The backend that a pick would take now; null: none.
    pub picked: Option<String>,
    /// What leads there: `pin`, `learned`, `hash` or `policy`.
    pub reason: String,
    /// The same in words.
    pub summary: String,
    pub backends: Vec<ExplanationView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ExplanationView {
    pub name: String,
    pub state: String,
    /// Of the picks by the policy, 0..=1.
    pub share: f64,
    /// Why it has that share.
    pub why: String,
}

pub(super) fn show(admin: &Admin, query: &str) -> Reply {
    let answer = Question::parse(query).and_then(|question| question.answer(admin));
    match answer {
        Ok(view) => json(StatusCode::OK, &view),
        Err(Refused(status, code, message)) => error(status, code, &message),
    }
}

struct Question {
    cluster: String,
    key: Option<String>,
}

impl Question {
    fn parse(query: &str) -> Result<Self, Refused> {
        let (mut cluster, mut key) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
            match name {
                "cluster" => cluster = Some(value),
                "key" => key = Some(value).filter(|key| !key.is_empty()),
                _ => {
                    let message = format!("{name:?} is not asked for; accepted: cluster, key");
                    return Err(invalid(message));
                }
            }
        }
        let cluster = cluster.ok_or_else(|| invalid("cluster: it is missing".into()))?;
        Ok(Self { cluster, key })
    }

    fn answer(self, admin: &Admin) -> Result<ExplainView, Refused> {
        let cluster = find(admin, &self.cluster)?;
        let explained = cluster.explain(self.key.as_deref().map(str::as_bytes), Instant::now());
        Ok(ExplainView {
            cluster: self.cluster,
            key: self.key,
            picked: explained.picked.map(|name| name.to_string()),
            reason: reason(explained.reason).into(),
            summary: explained.summary,
            backends: explained.backends.into_iter().map(|one| view(cluster, one)).collect(),
        })
    }
}

/// With the cause of its state, where that is the why.
fn view(cluster: &Cluster, explanation: Explanation) -> ExplanationView {
    let Explanation { backend, state, share, mut why } = explanation;
    let snapshot = cluster.snapshot();
    if let Ok(entry) = snapshot.named(&backend) {
        let cause = entry.reason(&Clock::now());
        if !cause.is_empty() {
            why += &format!(": {cause}");
        }
    }
    ExplanationView { name: backend.to_string(), state: state.name().into(), share, why }
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Pin => "pin",
        Reason::Learned => "learned",
        Reason::Hash => "hash",
        Reason::Policy => "policy",
    }
}
