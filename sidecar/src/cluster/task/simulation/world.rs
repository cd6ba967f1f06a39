//! What happens, and when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::{Duration, Instant, advance};

use super::discovery::Told;
use super::journal::{Journal, Note};
use super::model::Model;
use super::owners::Leases;
use super::past::Shown;
use super::setup::{self, millis};
use super::traffic::{Job, Mood};
use super::view::View;
use crate::cluster::keyed::Keyed;
use crate::cluster::{Cluster, ClusterTask, Event, FleetOrders, Picker, ProbeReport, fixture};

/// Times that the task may wake up without an end of time passing.
const TURNS: usize = 3_000;

#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: fastrand::Rng,
    pub(super) cluster: Arc<Cluster>,
    pub(super) task: ClusterTask,
    pub(super) pickers: Vec<Picker>,
    pub(super) moods: Vec<Mood>,
    pub(super) jobs: Vec<Job>,
    pub(super) model: Model,
    pub(super) view: View,
    pub(super) journal: Journal,
    /// Tables that are being built: when they are ready, and what they are of.
    tables: VecDeque<(Instant, Arc<Keyed>, u64)>,
    pub(super) start: Instant,
    /// What each source has said, or would have if it did not fail.
    pub(super) listed: Vec<Vec<Told>>,
    /// Whether sources say who is critical and in maintenance.
    pub(super) reports: bool,
    pub(super) fleet: FleetOrders,
    pub(super) leases: Leases,
    /// What is in the history so far, and what that has shown.
    pub(super) noted: u64,
    pub(super) shown: Vec<Shown>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let settings = setup::settings(&mut rng);
        let start_timeout = millis(&mut rng, 200, 5_000);
        let peers = rng.u16(1..=8);
        let now = Instant::now();
        let (cluster, task, _) = fixture::cluster(settings.clone(), start_timeout);
        let pickers =
            (0..rng.usize(2..=3)).map(|_| Picker::new(Arc::clone(&cluster), rng.fork())).collect();
        let journal = Journal::new(seed, format!("{start_timeout:?} {settings:?}"));
        let listed = vec![Vec::new(); settings.sources.len()];
        let model = Model::new(settings, peers, now + start_timeout, now);
        let mut world = Self {
            cluster,
            task,
            pickers,
            moods: vec![Mood::Well; peers.into()],
            jobs: Vec::new(),
            shown: model.peers.iter().map(Shown::of).collect(),
            model,
            view: View::default(),
            journal,
            tables: VecDeque::new(),
            start: now,
            listed,
            reports: rng.bool(),
            fleet: FleetOrders::new(),
            leases: Leases::default(),
            noted: 0,
            rng,
        };
        if world.rng.u8(..3) == 0 {
            world.remember();
        }
        if world.rng.bool() {
            let source = world.rng.usize(..world.listed.len());
            world.discover_all(source);
            world.turn();
        }
        world
    }

    /// Lets some time pass, and something happen.
    pub(super) async fn step(&mut self) {
        self.journal.step += 1;
        let pause = match self.rng.u32(..1500) {
            0 => millis(&mut self.rng, 20_000, 200_000),
            1..=40 => millis(&mut self.rng, 200, 3_000),
            _ => millis(&mut self.rng, 0, 60),
        };
        self.pass(pause).await;
        match self.rng.u8(..100) {
            0..=68 => self.burst(),
            69..=73 => self.change_mood(),
            74..=86 => self.probe(),
            87..=91 => self.discover(),
            92..=95 => self.order(),
            96 => self.order_fleet(),
            97 | 98 => self.change_pin(),
            _ => self.change_lease(),
        }
        self.cut();
        self.turn();
    }

    /// Lets time pass. The task wakes up as it would by itself; now and then it is late for what
    /// workers have sent it.
    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        for _ in 0..TURNS {
            let jobs = self.jobs.iter().map(Job::due).min();
            let tables = self.tables.front().map(|(at, ..)| *at);
            let next = [jobs, tables, self.task.next_wake()].into_iter().flatten().min();
            let next = next.filter(|at| *at < end);
            let now = Instant::now();
            advance(next.unwrap_or(end).saturating_duration_since(now)).await;
            self.work();
            let now = Instant::now();
            let wakes = self.task.next_wake().is_some_and(|at| at <= now);
            if wakes || self.rng.u8(..3) == 0 {
                self.cut();
                self.turn();
            }
            if next.is_none() {
                return;
            }
        }
        panic!("the task wakes up all the time");
    }

    /// What the task does when it wakes up.
    pub(super) fn turn(&mut self) {
        let now = Instant::now();
        while let Ok(event) = self.task.inbox.try_recv() {
            self.tell(event);
        }
        while let Some((_, keyed, signature)) = self.tables.pop_front_if(|(at, ..)| *at <= now) {
            self.journal.note(Note::Built);
            self.view.built = Some(signature);
            self.tell(Event::Built(keyed));
        }
        self.end_leases();
        self.model.follow_sources(now);
        self.task.tick(now);
        self.judge_tick();
        if let Some(members) = self.task.tables.wanted(now) {
            let ready = now + millis(&mut self.rng, 0, 200);
            self.tables.push_back((ready, Arc::new(members.build()), self.view.signature));
        }
        self.model.forget(now);
    }

    /// Has the task apply an event that the model takes in first.
    pub(super) fn tell(&mut self, event: Event) {
        let now = Instant::now();
        let mut failed_trial = None;
        match &event {
            Event::Suspect { id } => self.journal.note(Note::Suspect(*id)),
            Event::Trial { id, passed } => {
                self.journal.note(Note::Trial(*id, *passed));
                failed_trial = self.model.tried(*id, *passed, now).then_some(*id);
            }
            Event::Probed { id, report } => self.model.probed(*id, report.result.is_ok(), now),
            _ => {}
        }
        self.task.apply(event, now);
        self.judge_change(failed_trial, false);
        self.judge_history();
    }

    fn change_mood(&mut self) {
        let at = self.rng.usize(..self.moods.len());
        let port = at as u16 + 1;
        self.moods[at] = Mood::draw(&mut self.rng);
        self.journal.note(Note::Mood(port, self.moods[at]));
        if self.moods[at] != Mood::Stopped {
            self.jobs.iter_mut().filter(|j| j.port == port).for_each(|j| j.wake(&mut self.rng));
        }
    }

    fn probe(&mut self) {
        if self.model.settings.health.is_none() {
            return;
        }
        let Some(peer) = self.rng.choice(&self.model.peers) else { return };
        let (port, id) = (peer.port, peer.id);
        let Some(id) = id else { return };
        let passed = self.moods[usize::from(port) - 1].passes_probes() ^ (self.rng.u8(..12) == 0);
        self.journal.note(Note::Probed(port, passed));
        let report = ProbeReport {
            at: SystemTime::UNIX_EPOCH,
            result: if passed { Ok(()) } else { Err("refused".into()) },
            round_trip: millis(&mut self.rng, 0, 20),
        };
        self.tell(Event::Probed { id, report });
    }
}
