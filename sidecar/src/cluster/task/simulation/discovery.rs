//! What sources say: whole sets, failures, and what they said in an earlier life.

use std::time::SystemTime;

use tokio::time::Instant;

use super::journal::Note;
use super::setup::{millis, one_of};
use super::world::World;
use crate::cluster::{Answer, Endpoint, Event, Reported, fixture};

/// What a source says of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) port: u16,
    pub(super) weight: u32,
    pub(super) tier: u16,
    pub(super) reported: Reported,
}

impl Told {
    pub(super) fn is_usable(self) -> bool {
        self.reported != Reported::Critical
    }

    fn endpoint(self) -> Endpoint {
        let node = Some(node(self.port).into());
        let plain = fixture::endpoint(self.port, self.weight, self.tier);
        Endpoint { node, reported: self.reported, ..plain }
    }
}

/// The machine that an endpoint runs on; it shares it with one other.
pub(super) fn node(port: u16) -> String {
    format!("node-{}", port.div_ceil(2))
}

impl World {
    /// A wall clock that goes with the simulated time.
    pub(super) fn wall_clock(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + (Instant::now() - self.start)
    }

    /// What some source said before this sidecar was started.
    pub(super) fn remember(&mut self) {
        let source = self.rng.usize(..self.listed.len());
        self.list_all(source);
        let told = self.listed[source].clone();
        let left = match self.rng.u8(..4) {
            0 => millis(&mut self.rng, 0, 1_000),
            1 | 2 => millis(&mut self.rng, 200, 8_000),
            _ => millis(&mut self.rng, 8_000, 200_000),
        };
        self.journal.note(Note::Remembered(source, told.clone(), left));
        let (at, now) = (self.wall_clock(), Instant::now());
        let endpoints = told.iter().map(|told| told.endpoint()).collect();
        self.model.sources.remember(source, told, at, now + left);
        self.task.recall(source, at, endpoints, left, now);
    }

    pub(super) fn discover(&mut self) {
        let source = self.rng.usize(..self.listed.len());
        let port = self.rng.u16(1..=self.moods.len() as u16);
        let mut decided = false;
        match self.rng.u8(..20) {
            _ if self.listed[source].is_empty() && self.rng.u8(..4) > 0 => self.list_all(source),
            0 => self.listed[source].clear(),
            1 => {
                self.listed[source].clear();
                decided = true;
            }
            2..=4 => self.list_all(source),
            5 | 6 => return self.fail(source),
            // The same once more.
            7 => {}
            // A part, as from a server that gives out some of its records at a time.
            8 | 9 => {
                let kept = self.rng.usize(..=self.listed[source].len());
                self.rng.shuffle(&mut self.listed[source]);
                self.listed[source].truncate(kept);
            }
            10..=14 => {
                let before = self.listed[source].len();
                self.listed[source].retain(|told| told.port != port);
                if self.listed[source].len() == before {
                    let told = self.draw(port);
                    self.listed[source].push(told);
                }
            }
            _ => {
                let Some(port) = self.rng.choice(&self.listed[source]).map(|told| told.port) else {
                    return;
                };
                let told = self.draw(port);
                self.listed[source].retain(|told| told.port != port);
                self.listed[source].push(told);
            }
        }
        self.say(source, decided);
    }

    pub(super) fn discover_all(&mut self, source: usize) {
        self.list_all(source);
        self.say(source, false);
    }

    fn list_all(&mut self, source: usize) {
        self.listed[source] = (1..=self.moods.len() as u16).map(|port| self.draw(port)).collect();
    }

    fn draw(&mut self, port: u16) -> Told {
        let weight = one_of(&mut self.rng, [0, 1, 1, 1, 2, 10]);
        let tier = one_of(&mut self.rng, [0, 0, 0, 0, 1, 2]);
        let reported = match self.rng.u8(..8) {
            0 if self.reports => Reported::Critical,
            1 if self.reports => Reported::Maintenance,
            _ => Reported::Passing,
        };
        Told { port, weight, tier, reported }
    }

    fn say(&mut self, source: usize, decided: bool) {
        self.rng.shuffle(&mut self.listed[source]);
        let (told, now) = (self.listed[source].clone(), Instant::now());
        self.journal.note(Note::Discovered(source, told.clone(), decided));
        let endpoints = told.iter().map(|told| told.endpoint()).collect();
        let at = self.wall_clock();
        self.model.answered_by(source, told, decided, now);
        self.tell(Event::Discovered(Answer { source, at, endpoints, decided }));
    }

    fn fail(&mut self, source: usize) {
        self.journal.note(Note::DiscoveryFailed(source));
        let at = self.wall_clock();
        self.model.failed_by(source, at, Instant::now());
        self.tell(Event::DiscoveryFailed { source, at, error: "timeout".into() });
    }
}
