//! How much goes to each backend: from what its counters were and are.

use std::collections::HashMap;
use std::time::Instant;

const COUNTER: &str = "outrigger_outcomes_total{";

/// What backends have counted, by cluster and name.
#[derive(Debug)]
pub(super) struct Counts {
    at: Instant,
    of: HashMap<(String, String), Count>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Count {
    all: f64,
    failed: f64,
}

/// What ended at a backend in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) all: f64,
    pub(super) failed: f64,
}

impl Counts {
    /// Reads a page in Prometheus' text format; lines that are not understood are passed over.
    pub(super) fn parse(page: &str, at: Instant) -> Self {
        let mut of = HashMap::<_, Count>::new();
        for line in page.lines().filter_map(|line| line.strip_prefix(COUNTER)) {
            let Some((labels, value)) = line.rsplit_once("} ") else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let label = |name| label(labels, name);
            let (Some(cluster), Some(backend)) = (label("outrigger_cluster"), label("backend"))
            else {
                continue;
            };
            let count = of.entry((cluster, backend)).or_default();
            count.all += value;
            if !matches!(label("outcome").as_deref(), Some("success" | "cancelled")) {
                count.failed += value;
            }
        }
        Self { at, of }
    }
}

/// The value of a label, without what escapes it.
fn label(labels: &str, name: &str) -> Option<String> {
    let start = labels.find(&format!("{name}=\""))? + name.len() + 2;
    let mut value = String::new();
    let mut rest = labels[start..].chars();
    loop {
        match rest.next()? {
            '"' => return Some(value),
            '\\' => match rest.next()? {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
}

#[derive(Debug)]
pub(super) struct Rates {
    before: Counts,
    rates: HashMap<(String, String), Rate>,
}

impl Rates {
    pub(super) fn new(before: Counts) -> Self {
        Self { before, rates: HashMap::new() }
    }

    pub(super) fn observe(&mut self, counts: Counts) {
        let seconds = counts.at.duration_since(self.before.at).as_secs_f64().max(0.001);
        let rate = |(name, now): (&(String, String), &Count)| {
            let before = self.before.of.get(name).copied().unwrap_or_default();
            // A sidecar that has started again counts from 0.
            let since = |now: f64, before: f64| (now - before).max(0.0) / seconds;
            let (all, failed) = (since(now.all, before.all), since(now.failed, before.failed));
            (name.clone(), Rate { all, failed })
        };
        self.rates = counts.of.iter().map(rate).collect();
        self.before = counts;
    }

    /// What ended at this backend in a second, between the last two looks.
    pub(super) fn of(&self, cluster: &str, backend: &str) -> Rate {
        let name = (cluster.to_owned(), backend.to_owned());
        self.rates.get(&name).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn page(success: u32, reset: u32) -> String {
        format!(
            "# TYPE outrigger_outcomes_total counter\n\
             outrigger_outcomes_total{{outrigger_cluster=\"api\",backend=\"unix:/a\\\"b\",outcome=\"success\"}} {success}\n\
             outrigger_outcomes_total{{outrigger_cluster=\"api\",backend=\"unix:/a\\\"b\",outcome=\"reset\"}} {reset}\n\
             outrigger_outcomes_total{{outrigger_cluster=\"api\"}} 7\nother 1\n"
        )
    }

    #[test]
    fn rates_are_what_was_counted_since_the_last_look() {
        let start = Instant::now();
        let counts = |success, reset, seconds| {
            Counts::parse(&page(success, reset), start + Duration::from_secs(seconds))
        };
        let mut rates = Rates::new(counts(100, 1, 0));
        assert_eq!(rates.of("api", "unix:/a\"b"), Rate::default());
        rates.observe(counts(120, 5, 2));
        assert_eq!(rates.of("api", "unix:/a\"b"), Rate { all: 12.0, failed: 2.0 });
        // Another life.
        rates.observe(counts(0, 0, 3));
        assert_eq!(rates.of("api", "unix:/a\"b"), Rate::default());
    }
}
