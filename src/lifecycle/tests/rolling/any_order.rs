//! Whatever happens between two reconciles.

use super::*;

/// What may happen between two looks.
#[derive(Clone, Debug)]
enum Happens {
    /// So many minutes pass, and there is a list.
    Time(i64),
    Rotate,
    RevokeNow,
    SecretDeleted,
    /// Somebody gives the token another key.
    ByHand,
    /// Another process takes over after so many steps; its first list may lag behind what they did.
    Crash(usize, bool),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0..200_i64).prop_map(Happens::Time),
        2 => Just(Happens::Rotate),
        1 => Just(Happens::RevokeNow),
        1 => Just(Happens::SecretDeleted),
        1 => Just(Happens::ByHand),
        3 => (0..STEPS, any::<bool>()).prop_map(|(steps, lags)| Happens::Crash(steps, lags)),
    ]
}

proptest! {
    #![proptest_config(random::config(300))]

    #[test]
    fn whatever_happens_the_token_stays_and_each_cause_costs_one_roll(events in vec(happens(), 0..20)) {
        let mut simulator = Simulator::new(in_sync().change(|s| (s.desired.restarts, s.free) = (true, Some(0))));
        let (mut asked, mut lost) = (0, 0);
        for (n, event) in events.into_iter().enumerate() {
            let value = Request::parse(&format!("{n}"));
            match event {
                Happens::Time(minutes) => {
                    simulator.pass(SignedDuration::from_mins(minutes));
                    simulator.list();
                }
                Happens::Rotate => (simulator.scene.desired.requests.rotate, asked) = (value, asked + 1),
                Happens::RevokeNow => (simulator.scene.desired.requests.revoke_now, asked) = (value, asked + 1),
                Happens::SecretDeleted => (simulator.scene.secret, lost) = (SecretView::Missing, lost + 1),
                Happens::ByHand => {
                    simulator.remote.get_mut(&id(1)).unwrap().display_key = key(50 + n as u8).mask();
                    lost += 1;
                }
                Happens::Crash(steps, lags) => {
                    let before = simulator.remote.clone();
                    (0..steps).any(|_| simulator.step().is_some());
                    if lags { simulator.crash_behind(&before) } else { simulator.crash() }
                    lost += 1;
                }
            }
            prop_assert!(simulator.run().is_some(), "it comes to rest");
        }
        // Longer than anything is held back.
        for _ in 0..2 {
            simulator.pass(hours(2));
            simulator.list();
            is_in_order(&mut simulator, "in the end");
        }
        prop_assert_eq!((simulator.secrets_token(), simulator.causes.len()), (Some(id(1)), 0));
        prop_assert!(simulator.rolls.len() <= asked + lost, "{:?}", simulator.rolls);
        let at = simulator.secret_record().issued_at;
        prop_assert!(simulator.rolls.is_empty() || simulator.restarted.last() == at.as_ref());
    }
}
