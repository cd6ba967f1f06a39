//! The backends of one view, ready to be picked from.

use std::sync::Arc;

use crate::watch::View;

use super::member::Member;

#[derive(Debug)]
pub(super) struct Set {
    pub(super) view: Arc<View>,
    /// Tells it from the sets before.
    pub(super) number: u64,
    /// As in the view.
    members: Vec<Arc<Member>>,
    /// Where the share of each ends if they are laid one after another.
    ends: Vec<u64>,
}

impl Set {
    /// What was kept of backends in the set before stays with them.
    pub(super) fn new(view: Arc<View>, before: Option<&Self>) -> Self {
        let kept = |name: &str| before.and_then(|set| set.find(name)).map(|m| Arc::clone(&m.kept));
        let members = view.backends.iter().map(|backend| {
            let kept = kept(&backend.name).unwrap_or_default();
            Arc::new(Member { backend: Arc::clone(backend), kept })
        });
        let members = members.collect();
        let shares = view.backends.iter().map(|backend| u64::from(backend.share));
        let ends = shares.scan(0, |end, share| {
            *end += share;
            Some(*end)
        });
        let ends = ends.collect();
        let number = before.map_or(0, |set| set.number + 1);
        Self { view, number, members, ends }
    }

    pub(super) fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// The one whose share has the point that is `turn` / 2^64 of the way along all shares.
    pub(super) fn at(&self, turn: u64) -> Option<&Arc<Member>> {
        let total = *self.ends.last()?;
        // Below `total`, since `turn` is below 2^64.
        let point = (u128::from(turn) * u128::from(total)) >> 64;
        self.members.get(self.ends.partition_point(|end| u128::from(*end) <= point))
    }

    pub(super) fn find(&self, name: &str) -> Option<&Arc<Member>> {
        let found = self.members.binary_search_by(|m| m.backend.name.as_str().cmp(name));
        found.ok().and_then(|place| self.members.get(place))
    }

    /// Whether anybody may be picked.
    pub(super) fn is_usable(&self) -> bool {
        self.ends.last().is_some_and(|total| *total > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use outrigger_proto::v1;

    use super::*;
    use crate::backend::Backend;

    fn set(shares: &[(&str, u32)], before: Option<&Set>) -> Set {
        let backend = |&(name, share): &(&str, u32)| {
            let backend = v1::Backend { name: name.into(), share, ..v1::Backend::default() };
            Arc::new(Backend::from(backend))
        };
        let view = View {
            cluster: "api".into(),
            instance: "i".into(),
            version: 1,
            panic: false,
            backends: shares.iter().map(backend).collect(),
        };
        Set::new(Arc::new(view), before)
    }

    #[test]
    fn turns_are_as_even_as_shares_allow() {
        let set = set(&[("a", 5), ("b", 0), ("c", 3), ("d", 2)], None);
        let mut turn = 7_u64;
        let mut counts = BTreeMap::new();
        for picked in 1..=1000_u32 {
            let member = set.at(turn).unwrap();
            *counts.entry(member.backend.name.clone()).or_insert(0_u32) += 1;
            turn = turn.wrapping_add(super::super::STEP);
            for (name, share) in [("a", 5), ("c", 3), ("d", 2)] {
                let fair = f64::from(picked * share) / 10.0;
                let got = f64::from(counts.get(name).copied().unwrap_or(0));
                assert!((got - fair).abs() <= 3.0, "{name} has {got} of {picked}, fair is {fair}");
            }
        }
        assert!(!counts.contains_key("b"));
    }

    #[test]
    fn nobody_is_picked_where_nobody_has_a_share() {
        for shares in [&[][..], &[("a", 0), ("b", 0)]] {
            let set = set(shares, None);
            assert!(!set.is_usable());
            assert!(set.at(0).is_none() && set.at(u64::MAX).is_none());
        }
        let one = set(&[("a", 0), ("b", u32::MAX)], None);
        for turn in [0, 1, u64::MAX] {
            assert_eq!(one.at(turn).unwrap().backend.name, "b");
        }
    }

    #[test]
    fn what_is_counted_of_a_backend_stays_with_it() {
        let before = set(&[("a", 1), ("b", 1)], None);
        let after = set(&[("b", 2), ("c", 1)], Some(&before));
        let kept = |set: &Set, name| Arc::as_ptr(&set.find(name).unwrap().kept);
        assert_eq!(kept(&before, "b"), kept(&after, "b"));
        assert!(after.find("a").is_none());
        assert_eq!((before.number, after.number), (0, 1));
    }
}
