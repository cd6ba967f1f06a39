//! Gauges of backends, written when they are asked for.
//!
//! A registered series costs about 400 bytes for as long as it lives, and the eight gauges of a backend
//! say only what its cluster's snapshot says anyway.

use std::fmt::Write;

use metrics_exporter_prometheus::formatting::{write_help_line, write_type_line};

use super::names::{ALL, STATES};

/// What the gauges of one backend say.
#[derive(Debug)]
pub struct BackendRow {
    /// `outrigger_cluster` and `backend`, as they stand between braces.
    labels: String,
    /// One of [`STATES`].
    pub state: &'static str,
    pub weight: f64,
    pub in_flight: u32,
    pub connections: u32,
}

type Value = fn(&BackendRow) -> f64;

const GAUGES: [(&str, Value); 3] = [
    ("outrigger_backend_weight", |row| row.weight),
    ("outrigger_in_flight", |row| row.in_flight.into()),
    ("outrigger_upstream_connections_active", |row| row.connections.into()),
];
const STATE: &str = "outrigger_backend_state";

impl BackendRow {
    pub fn new(cluster: &str, backend: &str, state: &'static str) -> Self {
        let labels = format!("outrigger_cluster=\"{cluster}\",backend=\"{}\"", escaped(backend));
        Self { labels, state, weight: 0.0, in_flight: 0, connections: 0 }
    }
}

/// Appends them to a page in Prometheus' text format.
pub(super) fn write(page: &mut String, rows: &[BackendRow]) {
    if rows.is_empty() {
        return;
    }
    heading(page, STATE);
    for row in rows {
        for state in STATES {
            let is_in = u8::from(state == row.state);
            line(page, format_args!("{STATE}{{{},state=\"{state}\"}} {is_in}", row.labels));
        }
    }
    for (name, value) in GAUGES {
        heading(page, name);
        for row in rows {
            line(page, format_args!("{name}{{{}}} {}", row.labels, value(row)));
        }
    }
}

fn heading(page: &mut String, name: &str) {
    let help = ALL.iter().find(|(known, ..)| *known == name).map_or("", |(_, _, help)| help);
    page.push('\n');
    write_help_line(page, name, None, None, help);
    write_type_line(page, name, None, None, "gauge");
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(page, "{text}");
}

/// The path of a socket may have anything in it. The exporter's own function takes a backslash before
/// certain letters for one that is escaped already.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gauge_has_one_heading_and_a_line_for_each_backend() {
        let mut rows = vec![BackendRow::new("api", "10.0.0.1:80", "ready")];
        rows.push(BackendRow {
            weight: 1.5,
            ..BackendRow::new("api", "unix:/a\"\\\n", "draining")
        });
        let mut page = String::new();
        write(&mut page, &rows);
        assert_eq!(page.matches("# TYPE outrigger_backend_state gauge\n").count(), 1);
        assert_eq!(
            page.lines().filter(|line| line.starts_with("outrigger_backend_state{")).count(),
            10
        );
        let ready = "outrigger_backend_state{outrigger_cluster=\"api\",backend=\"10.0.0.1:80\",state=\"ready\"} 1\n";
        assert!(page.contains(ready), "{page}");
        assert!(page.contains("backend=\"unix:/a\\\"\\\\\\n\"} 1.5\n"), "{page}");
        let mut empty = String::new();
        write(&mut empty, &[]);
        assert!(empty.is_empty());
    }
}
