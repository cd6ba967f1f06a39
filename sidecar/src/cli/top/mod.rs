//! `outrigger top`: what a running sidecar does, live.

mod rates;
mod screen;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::client::AdminArg;
use super::{Failure, duration, reaches_reader, status};
use crate::admin::clusters::ClustersView;
use crate::admin::events::{EventView, EventsView};
use crate::config::DurationText;
use rates::{Counts, Rates};
use screen::Screen;

/// Events that are kept, more than any screen shows.
const EVENTS: usize = 64;

#[derive(Debug, Args)]
pub(super) struct Top {
    /// Only this cluster
    cluster: Option<String>,
    /// How often to look
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = duration)]
    every: DurationText,
    #[command(flatten)]
    admin: AdminArg,
}

/// What is shown.
#[derive(Debug)]
struct Look {
    view: ClustersView,
    rates: Rates,
    /// The oldest first.
    events: Vec<EventView>,
}

impl Top {
    /// On a terminal a screen until `q`; elsewhere a table after the other, until nobody reads on.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let every = self.every.parse().unwrap_or(Duration::from_secs(1));
        let mut look = self.first()?;
        if !std::io::stdout().is_terminal() {
            while reaches_reader(&(status::render(&look.view) + "\n"))? {
                std::thread::sleep(every);
                self.again(&mut look)?;
            }
            return Ok(());
        }
        let mut terminal = ratatui::try_init()?;
        let shown = self.show(&mut terminal, &mut look, every);
        // Whatever happened, the shell needs its terminal back.
        ratatui::try_restore()?;
        shown
    }

    fn show(
        &self,
        terminal: &mut ratatui::DefaultTerminal,
        look: &mut Look,
        every: Duration,
    ) -> Result<(), Failure> {
        let mut screen = Screen::default();
        loop {
            let next = Instant::now() + every;
            while let Some(left) = next.checked_duration_since(Instant::now()) {
                terminal.draw(|frame| screen.draw(frame, look))?;
                if !event::poll(left)? {
                    break;
                }
                let Event::Key(key) = event::read()? else { continue };
                if key.kind != KeyEventKind::Press {
                    continue;
                }
                match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                        return Ok(());
                    }
                    KeyCode::Up | KeyCode::Char('k') => screen.scroll(-1),
                    KeyCode::Down | KeyCode::Char('j') => screen.scroll(1),
                    KeyCode::PageUp => screen.scroll(-10),
                    KeyCode::PageDown | KeyCode::Char(' ') => screen.scroll(10),
                    KeyCode::Home => screen.scroll(isize::MIN),
                    _ => {}
                }
            }
            match self.again(look) {
                // It may be starting again: what was last seen stays, with a word about it.
                Err(Failure::Unreachable(why)) => screen.trouble = Some(why),
                looked => {
                    looked?;
                    screen.trouble = None;
                }
            }
        }
    }

    fn first(&self) -> Result<Look, Failure> {
        let view = self.clusters()?;
        let rates = Rates::new(self.counts()?);
        let mut look = Look { view, rates, events: Vec::new() };
        self.events(&mut look)?;
        Ok(look)
    }

    fn again(&self, look: &mut Look) -> Result<(), Failure> {
        look.view = self.clusters()?;
        look.rates.observe(self.counts()?);
        self.events(look)
    }

    fn clusters(&self) -> Result<ClustersView, Failure> {
        let mut view = self.admin.get("/api/v1/clusters")?;
        match &self.cluster {
            Some(wanted) => status::only(&mut view, wanted).map(|()| view),
            None => Ok(view),
        }
    }

    fn counts(&self) -> Result<Counts, Failure> {
        Ok(Counts::parse(&self.admin.text("/metrics")?, Instant::now()))
    }

    fn events(&self, look: &mut Look) -> Result<(), Failure> {
        let page: EventsView = self.admin.get("/api/v1/events")?;
        let wanted = |event: &EventView| {
            self.cluster.as_ref().is_none_or(|cluster| *cluster == event.cluster)
        };
        look.events = page.events.into_iter().filter(wanted).collect();
        look.events.drain(..look.events.len().saturating_sub(EVENTS));
        Ok(())
    }
}
