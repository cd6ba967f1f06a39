//! The screen of `top`.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Table};

use super::Look;
use crate::admin::clusters::{BackendView, ClusterView};
use crate::cli::status;

/// Of the height, at most, for events.
const EVENTS: u16 = 10;
const HEADER: [&str; 9] =
    ["BACKEND", "STATE", "TIER", "WEIGHT", "IN FLIGHT", "PER S", "FAILED", "EWMA", "REASON"];

#[derive(Debug, Default)]
pub(super) struct Screen {
    offset: usize,
    /// Why what is shown is old.
    pub(super) trouble: Option<String>,
}

impl Screen {
    /// By so many rows.
    pub(super) fn scroll(&mut self, rows: isize) {
        self.offset = self.offset.saturating_add_signed(rows);
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, look: &Look) {
        let events = EVENTS.min(frame.area().height / 3);
        let [top, middle, bottom] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(1),
            Constraint::Length(events),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(self.heading()), top);
        let rows: Vec<_> = look.view.clusters.iter().flat_map(|one| rows(one, look)).collect();
        // One row is the header's.
        let visible = usize::from(middle.height.saturating_sub(1));
        self.offset = self.offset.min(rows.len().saturating_sub(visible));
        let shown = rows.into_iter().skip(self.offset);
        let header = Row::new(HEADER).style(Style::new().add_modifier(Modifier::BOLD));
        frame.render_widget(Table::new(shown, widths(look)).header(header), middle);
        frame.render_widget(happened(look, events), bottom);
    }

    fn heading(&self) -> Line<'_> {
        match &self.trouble {
            Some(why) => Line::styled(format!("{why}; showing what was last seen"), Color::Red),
            None => Line::from("outrigger top    q quit    up/down scroll").style(Color::DarkGray),
        }
    }
}

/// A cluster's line, and one for each of its backends.
fn rows<'l>(cluster: &'l ClusterView, look: &'l Look) -> Vec<Row<'l>> {
    let color =
        if cluster.panic || cluster.stale_since.is_some() { Color::Red } else { Color::Cyan };
    // The name in the first column would be cut: the whole line is one for the eye only.
    let heading = status::heading(cluster);
    let (name, rest) = heading.split_once(": ").unwrap_or((&heading, ""));
    let heading = Row::new([
        name.to_owned(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        rest.to_owned(),
    ]);
    let backends = cluster.backends.iter().map(|one| row(cluster, one, look));
    std::iter::once(heading.style(Style::new().fg(color))).chain(backends).collect()
}

fn row<'l>(cluster: &ClusterView, backend: &'l BackendView, look: &Look) -> Row<'l> {
    let rate = look.rates.of(&cluster.name, &backend.name);
    let failed = if rate.failed > 0.0 { format!("{:.1}", rate.failed) } else { String::new() };
    let mut why = vec![backend.reason.clone()];
    why.extend(backend.orders.iter().map(status::order));
    why.retain(|part| !part.is_empty());
    Row::new([
        Span::raw(format!("  {}", backend.name)),
        Span::styled(backend.state.clone(), color(&backend.state)),
        Span::raw(backend.priority.to_string()),
        Span::raw(
            format!("{:.4}", backend.weight.effective)
                .trim_end_matches('0')
                .trim_end_matches('.')
                .to_owned(),
        ),
        Span::raw(backend.in_flight.to_string()),
        Span::raw(format!("{:.0}", rate.all)),
        Span::styled(failed, Color::Red),
        Span::raw(backend.ewma_seconds.map_or_else(String::new, |s| format!("{:.1} ms", s * 1e3))),
        Span::raw(why.join("; ")),
    ])
}

fn color(state: &str) -> Color {
    match state {
        "ready" => Color::Green,
        "pending" | "draining" => Color::Yellow,
        _ => Color::Red,
    }
}

fn widths(look: &Look) -> [Constraint; 9] {
    let backends = look.view.clusters.iter().flat_map(|cluster| &cluster.backends);
    let name =
        backends.map(|backend| backend.name.chars().count()).max().unwrap_or(0).clamp(16, 48);
    let name = u16::try_from(name + 2).unwrap_or(u16::MAX);
    let [state, tier, weight, in_flight, rate, failed, ewma] = [9, 5, 8, 9, 7, 6, 10];
    [
        Constraint::Length(name),
        Constraint::Length(state),
        Constraint::Length(tier),
        Constraint::Length(weight),
        Constraint::Length(in_flight),
        Constraint::Length(rate),
        Constraint::Length(failed),
        Constraint::Length(ewma),
        Constraint::Min(10),
    ]
}

/// The latest events, the newest last.
fn happened(look: &Look, height: u16) -> Paragraph<'_> {
    let room = usize::from(height.saturating_sub(1));
    let latest = look.events.iter().skip(look.events.len().saturating_sub(room));
    let line = |event: &crate::admin::events::EventView| {
        let time = event.at.get(11..19).unwrap_or_default();
        let backend = event.backend.as_deref().unwrap_or("-");
        Line::from(format!("{time}  {}  {backend}  {}: {}", event.cluster, event.kind, event.cause))
    };
    let block = Block::new().borders(Borders::TOP).title(" events ");
    Paragraph::new(latest.map(line).collect::<Vec<_>>()).block(block)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;
    use crate::cli::top::rates::{Counts, Rates};

    fn look(backends: u16) -> Look {
        let backend = |port| {
            json!({"name": format!("127.0.0.1:{port}"), "state": "ready", "reason": "", "priority": 0,
                "weight": {"configured": 1.0, "effective": 0.5}, "in_flight": 7, "ewma_seconds": 0.004,
                "source": "static", "suspect_until": null, "last_probe": null, "drain_deadline": null,
                "drain": null, "orders": [{"owner": "deploy", "kind": "weight", "weight": null,
                "factor": 0.5, "expires_at": null, "leased": true}]})
        };
        let view = json!({"clusters": [{"name": "api", "version": 3, "policy": "round_robin", "panic": false,
            "stale_since": null, "source": "static", "remembered": false, "pins": 0,
            "backends": (0..backends).map(backend).collect::<Vec<_>>()}]});
        let event = json!({"id": 1, "at": "2026-01-02T03:04:05Z", "cluster": "api", "backend": null,
            "kind": "panic", "cause": "too few", "source": "static"});
        Look {
            view: serde_json::from_value(view).unwrap(),
            rates: Rates::new(Counts::parse("", Instant::now())),
            events: vec![serde_json::from_value(event).unwrap()],
        }
    }

    fn drawn(screen: &mut Screen, look: &Look) -> String {
        let mut terminal = Terminal::new(TestBackend::new(120, 12)).unwrap();
        terminal.draw(|frame| screen.draw(frame, look)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn it_shows_clusters_backends_and_events() {
        let shown = drawn(&mut Screen::default(), &look(1));
        for part in
            ["1 of 1 backends ready", "127.0.0.1:0", "0.5", "4.0 ms", "03:04:05  api  -  panic"]
        {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
        assert!(shown.contains("weight x 0.5 by deploy, leased"), "{shown}");
    }

    #[test]
    fn it_scrolls_to_the_last_backend_and_no_further() {
        let (mut screen, look) = (Screen::default(), look(50));
        assert!(!drawn(&mut screen, &look).contains("127.0.0.1:49 "));
        screen.scroll(1000);
        assert!(drawn(&mut screen, &look).contains("127.0.0.1:49 "));
        screen.scroll(-1);
        assert!(!drawn(&mut screen, &look).contains("127.0.0.1:49 "));
    }

    #[test]
    fn it_says_when_what_it_shows_is_old() {
        let mut screen = Screen { offset: 0, trouble: Some("no sidecar answers".into()) };
        assert!(
            drawn(&mut screen, &look(1)).contains("no sidecar answers; showing what was last seen")
        );
    }
}
