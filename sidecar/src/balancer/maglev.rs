//! The keyed table: the same key goes to the same member, on every sidecar.
//!
//! Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
//! NSDI 2016): a table of slots in which each member owns as many as its weight says, so that a
//! lookup is one hash and one load. Members fill it in turns, each along an order of slots of its
//! own that depends on its key alone. Where a member stands in a list does not matter, so sidecars
//! that know the same members agree, and a member that leaves hardly moves the keys of others.
//!
//! A table is made of all members, usable or not, and rebuilt only when those or their weights
//! change. A key whose member may not be used at the moment looks at further slots of its own:
//! only such keys move, they spread over all others by weight, and come back afterwards.

use twox_hash::XxHash3_64;

/// A prime, as the members' orders of slots need, and over 100 times the members of all but the
/// largest clusters, which keeps shares right to within 1 %.
const SLOTS: usize = 65_537;
/// As a slot can name. Discovery ends well before.
const MEMBERS: usize = 1 << 16;
/// How many further slots a key looks at. With half of the members out of use it finds one but
/// for one key in 2^33; with nine in ten out of use, for one key in 32.
const REHASHES: u64 = 32;

/// Who owns which slots.
#[derive(Debug, Default)]
pub struct Table {
    /// Members by slot; empty without members.
    slots: Box<[u16]>,
    /// The weights that were counted, by member; 0 for those that own nothing.
    weights: Box<[u32]>,
}

/// How much work one member may have in flight: its share of all there is, times a factor.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// In flight at all members that may be used.
    pub total_load: u64,
    /// The sum of their weights, as the table was given them.
    pub total_weight: u64,
    /// 125 lets a member have a quarter more than its share; below 100 counts as 100, since
    /// otherwise there need not be room for everyone.
    pub factor_percent: u32,
}

/// The hash of a key, or of a member's name. It must never change: sidecars of different versions
/// send the same key to the same member.
pub fn hash(key: &[u8]) -> u64 {
    XxHash3_64::oneshot(key)
}

/// Further hashes of the same key, each independent of the others.
fn rehash(hash: u64, nth: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(nth, &hash.to_le_bytes())
}

impl Table {
    /// `members` are hashes of their names, which must be stable, with their weights. A weight of
    /// 0 owns no slot, unless all are 0: then all own the same number. Any positive weight owns
    /// at least one, if there are enough. Takes 2 ms, and 0.2 s for 5,000 members of which one
    /// outweighs all others by far: not for the way of a request.
    pub fn new(members: &[(u64, u32)]) -> Self {
        let members = &members[..members.len().min(MEMBERS)];
        let unweighted = members.iter().all(|(_, weight)| *weight == 0);
        let counted = |weight: u32| if unweighted { 1 } else { weight };
        let weights: Box<[u32]> = members.iter().map(|(_, weight)| counted(*weight)).collect();
        Self { slots: populate(members, &weights), weights }
    }

    /// The member that owns the slot of a key.
    pub fn lookup(&self, hash: u64) -> Option<usize> {
        self.candidates(hash).next()
    }

    /// The member that a key belongs to, then those it goes to instead, the same at any time;
    /// some of them more than once. Empty without members.
    pub fn candidates(&self, hash: u64) -> impl Iterator<Item = usize> {
        let slots = (0..=REHASHES).map(move |nth| rehash(hash, nth) % SLOTS as u64);
        slots.map_while(|slot| self.slots.get(slot as usize).map(|member| usize::from(*member)))
    }

    /// The first candidate that may be used. `None` without one, which with few usable members
    /// does not mean that there are none: the key is then as good as no key.
    pub fn pick(&self, hash: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        self.candidates(hash).find(|member| usable(*member))
    }

    /// As `pick`, but passing over members that are at their bound, so that one popular key
    /// cannot overload its member (Mirrokni et al., "Consistent Hashing with Bounded Loads", 2016).
    /// Where nobody has room, or none was found, the key stays where it belongs.
    pub fn pick_bounded(
        &self,
        hash: u64,
        usable: impl Fn(usize) -> bool,
        load: impl Fn(usize) -> u32,
        bound: Bound,
    ) -> Option<usize> {
        let has_room = |member: usize| {
            let weight = self.weights.get(member).copied().unwrap_or(0);
            u128::from(load(member)) < bound.capacity(weight)
        };
        self.pick(hash, |member| usable(member) && has_room(member))
            .or_else(|| self.pick(hash, usable))
    }
}

impl Bound {
    /// What a member of this weight may have in flight, the work to be placed included.
    fn capacity(self, weight: u32) -> u128 {
        let factor = u128::from(self.factor_percent.max(100));
        let load = u128::from(self.total_load) + 1;
        let whole = 100 * u128::from(self.total_weight.max(1));
        (factor * load * u128::from(weight)).div_ceil(whole)
    }
}

/// The order in which a member takes slots, all of them, and how far it has come.
struct Turn {
    member: u16,
    weight: u64,
    next: usize,
    skip: usize,
    /// It takes a slot in each round up to which its weight has added up to this.
    due: u64,
}

/// Everyone takes slots in turns until none is left: the heaviest in each round, others in as
/// many as their weight is of that one's.
fn populate(members: &[(u64, u32)], weights: &[u32]) -> Box<[u16]> {
    let mut turns = turns(members, weights);
    let Some(heaviest) = turns.iter().map(|turn| turn.weight).max() else {
        return Box::default();
    };
    let mut owners = vec![None; SLOTS];
    let mut free = SLOTS;
    let mut round = 0;
    while free > 0 {
        round += 1;
        for turn in &mut turns {
            if free > 0 && round * turn.weight >= turn.due {
                turn.due += heaviest;
                turn.take(&mut owners);
                free -= 1;
            }
        }
    }
    owners.into_iter().flatten().collect()
}

/// In the order of keys, so that the order of members does not matter.
fn turns(members: &[(u64, u32)], weights: &[u32]) -> Vec<Turn> {
    let mut order: Vec<usize> = (0..members.len()).filter(|index| weights[*index] > 0).collect();
    order.sort_unstable_by_key(|index| members[*index]);
    let turn = |index: usize| {
        let (key, _) = members[index];
        Turn {
            member: index as u16,
            weight: u64::from(weights[index]),
            next: (rehash(key, 0) % SLOTS as u64) as usize,
            skip: (rehash(key, 1) % (SLOTS as u64 - 1)) as usize + 1,
            due: 0,
        }
    };
    order.into_iter().map(turn).collect()
}

impl Turn {
    /// Takes the next slot in its order that is free; there must be one.
    fn take(&mut self, owners: &mut [Option<u16>]) {
        while owners[self.next].is_some() {
            self.advance();
        }
        owners[self.next] = Some(self.member);
        self.advance();
    }

    fn advance(&mut self) {
        self.next = (self.next + self.skip) % SLOTS;
    }
}

#[cfg(test)]
mod tests;
