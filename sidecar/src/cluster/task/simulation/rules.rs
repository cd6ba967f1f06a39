//! Who may be picked, written down a second time from what users are told.

/// What is known of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) port: u16,
    pub(super) tier: u16,
    /// As configured.
    pub(super) weight: u32,
    pub(super) standing: Standing,
}

/// What speaks against a backend: the gravest thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Draining,
    /// Its source says that it must not be used.
    Critical,
    Failing,
    Ejected,
    Stalled,
    Unprobed,
    Ready,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Ports, in their order.
    pub(super) candidates: Vec<u16>,
    pub(super) panic: bool,
}

impl Choice {
    fn of(mut used: Vec<&Facts>, panic: bool) -> Self {
        // Weight 0 is the last resort of its tier.
        if used.iter().any(|facts| facts.weight > 0) {
            used.retain(|facts| facts.weight > 0);
        }
        Self { candidates: used.iter().map(|facts| facts.port).collect(), panic }
    }
}

/// `all` in the order of ports. `verdicts_awaited`: the sidecar has just started.
pub(super) fn choose(
    all: &[Facts],
    panic_threshold: u8,
    verdicts_awaited: bool,
    spill: bool,
) -> Choice {
    let staying: Vec<&Facts> =
        all.iter().filter(|facts| facts.standing != Standing::Draining).collect();
    let mut tiers: Vec<u16> = staying.iter().map(|facts| facts.tier).collect();
    tiers.sort_unstable();
    tiers.dedup();
    let of = |tier: u16, standings: &[Standing]| -> Vec<&Facts> {
        let wanted = |f: &&Facts| f.tier == tier && standings.contains(&f.standing);
        staying.iter().copied().filter(wanted).collect()
    };

    if spill && staying.iter().any(|facts| facts.standing == Standing::Ready) {
        return spilt(&staying, panic_threshold);
    }

    // The lowest tier with an eligible backend takes all; with too few of them its ejected ones
    // are used again.
    for &tier in &tiers {
        let ready = of(tier, &[Standing::Ready]);
        if ready.is_empty() {
            continue;
        }
        let members = staying.iter().filter(|facts| facts.tier == tier).count();
        let share = ready.len() as f64 / members as f64;
        let with_ejected = of(tier, &[Standing::Ready, Standing::Ejected]);
        let panic = share < f64::from(panic_threshold) / 100.0 && with_ejected.len() > ready.len();
        return Choice::of(if panic { with_ejected } else { ready }, panic);
    }

    // Nobody is eligible. First verdicts are worth waiting for, but not for ever.
    let unprobed = staying.iter().filter(|facts| facts.standing == Standing::Unprobed).count();
    if unprobed > 0 && verdicts_awaited {
        return Choice::default();
    }
    // Who is critical is used in no case, so that the others are all that there is.
    let usable = staying.iter().filter(|facts| facts.standing != Standing::Critical).count();
    let all_unprobed = unprobed > 0 && unprobed == usable;
    if panic_threshold == 0 && !all_unprobed {
        return Choice::default();
    }
    let doubts =
        [&[Standing::Ejected, Standing::Stalled][..], &[Standing::Unprobed], &[Standing::Failing]];
    for standings in doubts {
        for &tier in &tiers {
            let doubted = of(tier, standings);
            if !doubted.is_empty() {
                return Choice::of(doubted, !all_unprobed);
            }
        }
    }
    Choice::default()
}

/// Each tier takes what it can, 1.4 times the share of it that is eligible, until all is taken.
fn spilt(staying: &[&Facts], panic_threshold: u8) -> Choice {
    let shares = shares(staying);
    let taken: f64 = shares.iter().map(|(_, share, _)| share).sum();
    let (mut choice, short) = (Choice::default(), taken < 1.0 - 1e-9);
    for (tier, _, eligible) in shares {
        let panic = short && eligible < f64::from(panic_threshold) / 100.0;
        let of_tier = staying.iter().copied().filter(|facts| facts.tier == tier);
        let used = of_tier.filter(|facts| match facts.standing {
            Standing::Ready => true,
            Standing::Ejected => panic,
            _ => false,
        });
        let used: Vec<&Facts> = used.collect();
        choice.panic |= used.iter().any(|facts| facts.standing == Standing::Ejected);
        choice.candidates.extend(Choice::of(used, false).candidates);
    }
    choice.candidates.sort_unstable();
    choice
}

/// The tiers that take traffic, how much of it, and which share of each is eligible.
pub(super) fn shares(staying: &[&Facts]) -> Vec<(u16, f64, f64)> {
    let mut tiers: Vec<u16> = staying.iter().map(|facts| facts.tier).collect();
    tiers.sort_unstable();
    tiers.dedup();
    let (mut left, mut shares) = (1.0, Vec::new());
    for tier in tiers {
        let members = staying.iter().filter(|facts| facts.tier == tier);
        let ready = members.clone().filter(|facts| facts.standing == Standing::Ready).count();
        let eligible = ready as f64 / members.count() as f64;
        let share = (eligible * 1.4).min(left);
        left -= share;
        if share > 1e-9 {
            shares.push((tier, share, eligible));
        }
    }
    shares
}
