use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn keys(count: u32) -> impl Iterator<Item = u64> {
    (0..count).map(|key| hash(format!("key-{key}").as_bytes()))
}

/// Members that are named like backends.
fn members(weights: &[u32]) -> Vec<(u64, u32)> {
    let name = |index| format!("10.0.{}.{}:8080", index / 256, index % 256);
    weights.iter().enumerate().map(|(i, weight)| (hash(name(i).as_bytes()), *weight)).collect()
}

fn table(weights: &[u32]) -> Table {
    Table::new(&members(weights))
}

/// How many slots each member owns.
fn owned(table: &Table) -> Vec<usize> {
    let mut owned = vec![0; table.weights.len()];
    for member in &table.slots {
        owned[usize::from(*member)] += 1;
    }
    owned
}

fn percent(counts: &[usize]) -> Vec<f64> {
    let total: usize = counts.iter().sum();
    counts.iter().map(|count| *count as f64 * 100.0 / total as f64).collect()
}

/// Sidecars of all versions must agree: a change of these values moves every key of every user.
#[test]
fn the_table_is_the_same_for_ever() {
    assert_eq!(hash(b""), 0x2d06_8005_38d3_94c2);
    assert_eq!(hash(b"10.0.0.1:8080"), 0xb655_a4a4_783c_5011);
    let table = table(&[1, 2, 3, 0, 5]);
    let picks: Vec<_> = keys(16).map(|key| table.lookup(key).unwrap()).collect();
    assert_eq!(picks, [1, 1, 2, 0, 4, 1, 2, 0, 2, 4, 2, 2, 2, 1, 4, 4]);
    let further: Vec<_> = table.candidates(hash(b"key-0")).take(8).collect();
    assert_eq!(further, [1, 0, 4, 4, 4, 4, 2, 2]);
    let slots: Vec<u8> = table.slots.iter().flat_map(|member| member.to_le_bytes()).collect();
    assert_eq!(hash(&slots), 0x9826_4211_b3d3_5577);
}

#[test]
fn nobody_and_a_single_member() {
    let nobody = table(&[]);
    assert_eq!((nobody.lookup(1), nobody.pick(1, |_| true)), (None, None));
    let single = table(&[0]);
    assert!(keys(100).all(|key| single.lookup(key) == Some(0)));
    assert_eq!(single.pick(1, |_| false), None);
}

#[test]
fn shares_follow_the_weights() {
    let weights = [60, 30, 10];
    let table = table(&weights);
    let mut counts = vec![0; 3];
    for key in keys(100_000) {
        counts[table.lookup(key).unwrap()] += 1;
    }
    let (of_slots, of_keys) = (percent(&owned(&table)), percent(&counts));
    for (index, weight) in weights.into_iter().enumerate() {
        assert!((of_slots[index] - f64::from(weight)).abs() < 0.01, "{of_slots:?}");
        assert!((of_keys[index] - f64::from(weight)).abs() < 1.0, "{of_keys:?}");
    }
}

#[test]
fn weight_0_is_left_out_unless_all_are() {
    assert_eq!(owned(&table(&[0, 1, 0]))[..], [0, SLOTS, 0]);
    let even = owned(&table(&[0; 4]));
    assert!(even.iter().all(|slots| slots.abs_diff(SLOTS / 4) <= 1), "{even:?}");
}

#[test]
fn one_that_leaves_takes_hardly_more_than_its_keys_along() {
    let all = members(&[1; 10]);
    let before = Table::new(&all);
    for leaving in 0..all.len() {
        let mut left = all.clone();
        left.remove(leaving);
        let after = Table::new(&left);
        let moved = |key: &u64| {
            let (was, is) = (before.lookup(*key).unwrap(), after.lookup(*key).unwrap());
            all[was] != left[is]
        };
        let moved = keys(20_000).filter(moved).count();
        assert!(moved <= 2_400, "{moved} of 20000 keys moved");
    }
}

#[test]
fn one_that_may_not_be_used_lends_its_keys_to_all_others() {
    let table = table(&[3, 1, 1, 2, 3]);
    let mut moved = vec![0; 5];
    for key in keys(50_000) {
        let (home, picked) = (table.lookup(key), table.pick(key, |member| member != 0).unwrap());
        if home != Some(0) {
            assert_eq!(home, Some(picked));
        } else {
            moved[picked] += 1;
        }
    }
    let shares = percent(&moved);
    for (share, expected) in
        shares.iter().zip([0.0, 100.0 / 7.0, 100.0 / 7.0, 200.0 / 7.0, 300.0 / 7.0])
    {
        assert!((share - expected).abs() < 2.0, "{shares:?}");
    }
}

#[test]
fn a_search_for_a_usable_member_ends() {
    let table = table(&[1; 1000]);
    let asked = std::cell::Cell::new(0);
    let never = |_: usize| {
        asked.set(asked.get() + 1);
        false
    };
    assert_eq!(table.pick(hash(b"key"), never), None);
    assert_eq!(asked.get(), 33);
}

#[test]
fn a_popular_key_does_not_overload_its_member() {
    let table = table(&[1, 1, 2]);
    let mut load = [0u32; 3];
    let key = hash(b"popular");
    let home = table.lookup(key).unwrap();
    for placed in 0..1000u64 {
        let bound = Bound { total_load: placed, total_weight: 4, factor_percent: 125 };
        let picked = table.pick_bounded(key, |_| true, |member| load[member], bound).unwrap();
        load[picked] += 1;
        let most = (125 * (placed + 1) * [1, 1, 2][picked]).div_ceil(400);
        assert!(u64::from(load[picked]) <= most, "{load:?}, at most {most}");
    }
    // As much as the bound allows stays at home.
    let most = [313, 313, 625][home];
    assert!(load[home].abs_diff(most) <= 2, "{load:?}, home is {home}");
}

#[test]
fn where_nobody_has_room_a_key_stays_at_home() {
    let table = table(&[1; 3]);
    for factor_percent in [0, 100, u32::MAX] {
        for total_load in [0, 1, u64::MAX] {
            let bound = Bound { total_load, total_weight: 3, factor_percent };
            for key in keys(50) {
                let home = table.lookup(key);
                assert_eq!(table.pick_bounded(key, |_| true, |_| u32::MAX, bound), home);
                assert_eq!(table.pick_bounded(key, |_| true, |_| 0, bound), home);
                assert_eq!(table.pick_bounded(key, |_| false, |_| 0, bound), None);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Every slot has an owner, and members own what their weights say, to within a turn each.
    #[test]
    fn slots_follow_the_weights(weights in vec(0u32..=16_776_960, 1..40)) {
        let owned = owned(&table(&weights));
        let counted: Vec<f64> = match weights.iter().any(|weight| *weight > 0) {
            true => weights.iter().map(|weight| f64::from(*weight)).collect(),
            false => vec![1.0; weights.len()],
        };
        let total: f64 = counted.iter().sum();
        prop_assert_eq!(owned.iter().sum::<usize>(), SLOTS);
        for (owned, weight) in owned.iter().zip(&counted) {
            let share = weight / total;
            let slack = 1.0 + weights.len() as f64 * share;
            prop_assert!((*owned as f64 - share * SLOTS as f64).abs() <= slack);
            prop_assert_eq!(*owned > 0, *weight > 0.0);
        }
    }

    /// Where members stand in the list changes nothing.
    #[test]
    fn order_does_not_matter(weights in vec(0u32..1000, 1..30), seed: u64) {
        let ordered = members(&weights);
        let mut shuffled = ordered.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
        let (one, other) = (Table::new(&ordered), Table::new(&shuffled));
        for (a, b) in one.slots.iter().zip(&other.slots) {
            prop_assert_eq!(ordered[usize::from(*a)], shuffled[usize::from(*b)]);
        }
    }

    /// Only usable members are picked, the key's own if it is one of them.
    #[test]
    fn picks_are_usable(weights in vec(0u32..9, 0..16), usable: u16, key: u64) {
        let table = table(&weights);
        let usable = |member: usize| usable & (1 << member) != 0;
        let picked = table.pick(key, usable);
        prop_assert!(picked.is_none_or(|member| member < weights.len() && usable(member)));
        if let Some(home) = table.lookup(key).filter(|home| usable(*home)) {
            prop_assert_eq!(picked, Some(home));
        }
    }
}
