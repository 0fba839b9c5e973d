use std::{collections::BTreeSet, time::Duration};

use clap::ValueEnum;

use super::{Fault, Kind, MOST, round};

fn rounds(seed: u64, count: u64) -> Vec<Vec<Fault>> {
    let all = Kind::value_variants();
    (0..count)
        .map(|number| round(seed, number, all, MOST, usize::MAX))
        .collect()
}

#[test]
fn a_seed_gives_the_same_plan_again() {
    assert_eq!(rounds(7, 100), rounds(7, 100));
    assert_ne!(rounds(7, 1), rounds(8, 1));
}

#[test]
fn every_kind_comes_and_no_target_has_two_faults_at_once() {
    let mut kinds = BTreeSet::new();
    for faults in rounds(1, 1000) {
        for (index, fault) in faults.iter().enumerate() {
            kinds.insert(fault.kind);
            let mut others = faults[..index].iter();
            assert!(others.all(|other| fault.goes_with(other)), "{faults:?}");
        }
    }
    assert_eq!(kinds.len(), Kind::value_variants().len());
}

#[test]
fn two_or_three_faults_at_once_are_the_normal_case() {
    let (mut moments, mut busy) = (0, 0);
    for faults in rounds(3, 200) {
        let end = faults.iter().map(|it| it.after).max().unwrap_or_default();
        let mut moment = Duration::ZERO;
        while moment < end {
            let struck = |it: &&Fault| (it.after..=it.after + it.lasts).contains(&moment);
            moments += 1;
            busy += usize::from(faults.iter().filter(struck).count() >= 2);
            moment += Duration::from_millis(100);
        }
    }
    assert!(busy * 2 > moments, "{busy} of {moments} moments");
}

#[test]
fn a_plan_has_no_more_faults_than_are_wanted_and_only_of_wanted_kinds() {
    for number in 0..100 {
        let faults = round(5, number, &[Kind::Kill, Kind::Cut], MOST, 3);
        assert!(faults.len() <= 3);
        let wanted = |it: &Fault| matches!(it.kind, Kind::Kill | Kind::Cut);
        assert!(faults.iter().all(wanted), "{faults:?}");
    }
}

#[test]
fn a_round_can_have_more_faults() {
    let all = Kind::value_variants();
    let counts = (0..100).map(|number| round(5, number, all, 50, usize::MAX).len());
    let counts: BTreeSet<_> = counts.collect();
    assert!(
        counts.iter().all(|count| (1..=50).contains(count)),
        "{counts:?}"
    );
    assert!(counts.last() > Some(&30), "{counts:?}");
}
