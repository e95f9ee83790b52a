//! Calls that change something: no more at once than there are slots, nor than DataFast can take.

use datafast_sandbox::{Fault, FaultBody, Kind, Operation};
use futures::future::join_all;

use super::*;

fn hold() -> Fault {
    Fault::new(Operation::CreateAccessToken, Kind::Hold)
}

fn refusal(message: &str) -> Fault {
    let body = FaultBody::Error { code: None, message: message.into() };
    Fault::new(Operation::CreateAccessToken, Kind::Status { status: 400, body })
}

/// An account with room for so many tokens beside the credential.
async fn with_room(room: i32) -> Connected {
    let world = Connected::new().await;
    world.account.set_limits(Allow::default(), 1 + room, None, None);
    assert_eq!(world.free(), Some(room.into()));
    world
}

#[tokio::test]
async fn two_requests_for_one_slot_are_one_token() {
    let world = with_room(1).await;
    let held = world.remote.set_fault(hold());
    let (first, ()) = tokio::join!(world.create(), async {
        world.remote.held(held).await;
        assert_eq!(world.free(), Some(0), "a request under way has the slot");
        assert!(matches!(world.create().await, Err(CallError::NotSent)));
        world.remote.release(held);
    });
    assert!(first.is_ok());
    assert_eq!(world.free(), Some(0));
    assert_eq!(world.remote.count(Operation::CreateAccessToken), 1);
    assert!(matches!(world.create().await, Err(CallError::NotSent)), "full");
    world.account.revoke(&caller("agent"), &first.unwrap().token.id).await.unwrap();
    assert_eq!(world.free(), Some(1));
    assert!(world.create().await.is_ok());
}

#[tokio::test]
async fn a_request_that_makes_no_token_gives_its_slot_back() {
    let world = with_room(1).await;
    world.remote.set_fault(refusal("this name will not do").once());
    assert!(matches!(world.create().await, Err(CallError::DataFast(Error::Rejected { .. }))));
    assert_eq!(world.free(), Some(1));

    let held = world.remote.set_fault(hold());
    let is_taken = async {
        world.remote.held(held).await;
        world.free()
    };
    tokio::select! {
        _ = world.create() => panic!("it is held"),
        free = is_taken => assert_eq!(free, Some(0)),
    }
    assert_eq!(world.free(), Some(1), "nobody waits for the answer any more");
    world.remote.release(held);
}

#[tokio::test]
async fn a_token_that_is_revoked_is_news_to_those_that_wait() {
    let mut world = with_room(1).await;
    let issued = world.create().await.unwrap();
    world.waits("agent", Waits { news: true, ..Waits::default() });
    world.world.all_told();
    world.account.revoke(&caller("agent"), &issued.token.id).await.unwrap();
    assert_eq!(world.world.woken(), ["agent"]);
}

#[tokio::test]
async fn a_request_that_would_be_sent_too_late_or_by_another_than_the_leader_is_not_sent() {
    let world = with_room(1).await;
    let new = NewToken { name: "a".into(), permissions: BTreeSet::new(), website_ids: BTreeSet::new() };
    let late = world.account.create(&caller("agent"), &new, Instant::now(), || true).await;
    let deposed = world.account.create(&caller("agent"), &new, Instant::now() + POLL, || false).await;
    assert!(matches!((late, deposed), (Err(CallError::TooLate), Err(CallError::NotSent))));
    assert_eq!((world.free(), world.remote.count(Operation::CreateAccessToken)), (Some(1), 0));
}

#[tokio::test]
async fn a_request_whose_turn_does_not_come_in_time_waits_no_longer() {
    let world = with_room(9).await;
    let held = world.remote.set_fault(hold());
    let others = join_all([(); 4].map(|()| world.create()));
    let late = async {
        while world.remote.count(Operation::CreateAccessToken) < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let new = NewToken { name: "a".into(), permissions: BTreeSet::new(), website_ids: BTreeSet::new() };
        let late =
            world.account.create(&caller("agent"), &new, Instant::now() + Duration::from_millis(10), || true).await;
        world.remote.release(held);
        late
    };
    let (others, late) = tokio::join!(others, late);
    assert!(matches!(late, Err(CallError::TooLate)), "{late:?}");
    assert!(others.iter().all(Result::is_ok) && world.remote.count(Operation::CreateAccessToken) == 4);
}

/// DataFast says that one more than the credential and two others is too many, whatever the account resource says.
async fn learnt() -> Connected {
    let world = with_room(9).await;
    for _ in 0..2 {
        world.create().await.unwrap();
    }
    world.remote.set_fault(refusal("Token limit reached").times(2));
    assert!(matches!(world.create().await, Err(CallError::DataFast(Error::Full { .. }))));
    assert_eq!(world.free(), Some(7), "one resource's refusal may be about its request alone");
    let another = create_for(&world.account, "another").await;
    assert!(matches!(another, Err(CallError::DataFast(Error::Full { .. }))));
    assert_eq!(world.free(), Some(0));
    world
}

#[tokio::test]
async fn a_limit_that_datafast_tells_holds_for_ten_minutes_and_a_list_shows_who_has_the_slots() {
    let world = learnt().await;
    assert_eq!(world.account.until_list(), Some(Duration::ZERO));
    world.poll().await;
    assert_eq!(world.free(), Some(0));
    world.clock.pass(599);
    assert_eq!(world.free(), Some(0));
    world.clock.pass(1);
    assert!(world.poll().await.is_news, "those that wait hear of it");
    assert_eq!(world.free(), Some(7));
    assert!(world.create().await.is_ok(), "it is put to the test again");
}

#[tokio::test]
async fn a_limit_that_was_learnt_leaves_what_others_delete() {
    let world = learnt().await;
    let one = world.remote.issued_tokens().remove(0);
    world.remote.delete_behind_back(&one.id);
    // A list that began sooner may lag.
    world.clock.pass(120);
    world.poll().await;
    assert_eq!(world.free(), Some(1));
    world.account.set_limits(Allow::default(), 1, None, None);
    assert_eq!(world.free(), Some(-1), "what the account resource says may be less");
}

#[tokio::test]
async fn a_limit_that_proves_too_low_is_forgotten() {
    let world = learnt().await;
    for name in ["by", "others"] {
        let token = datafast_sandbox::ForeignToken { name: Some(name.into()), ..Default::default() };
        world.remote.add_token(token);
    }
    let told = world.poll().await;
    assert!(told.is_news);
    assert_eq!(world.free(), Some(5));

    let world = learnt().await;
    world.connect("1");
    assert_eq!(world.free(), Some(0), "the same credential as before");
    world.connect("2");
    assert_eq!(world.free(), Some(7), "it was told to another credential");
}

#[tokio::test]
async fn after_a_failure_there_is_one_change_at_a_time_until_one_succeeds() {
    let mut world = Connected::new().await;
    let body = FaultBody::Error { code: None, message: "overloaded".into() };
    let unavailable = Fault::new(Operation::CreateAccessToken, Kind::Status { status: 503, body });
    world.remote.set_fault(unavailable.times(2));
    for name in ["one", "another"] {
        let answer = create_for(&world.account, name).await;
        assert!(matches!(answer, Err(CallError::DataFast(Error::Unavailable { .. }))), "{name}");
    }
    assert!(matches!(world.create().await, Err(CallError::NotSent)), "the account is closed");
    world.clock.pass(60);
    world.poll().await;

    let held = world.remote.set_fault(hold());
    let account = &world.world.account;
    let counted = || world.remote.count(Operation::CreateAccessToken);
    let before = counted();
    let four = futures::future::join_all((0..4).map(|_| create(account)));
    let ((), answers) = tokio::join!(
        async {
            world.remote.held(held).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(counted() - before, 1, "the others wait for its answer");
            world.remote.release(held);
        },
        four
    );
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(counted() - before, 4);
    assert_eq!(lock(&account.state).gate.calls(), crate::account::gate::MOST_CALLS);
    world.world.all_told();
}

#[tokio::test]
async fn where_all_is_well_four_changes_are_under_way_at_once() {
    let world = Connected::new().await;
    let held = world.remote.set_fault(hold());
    let counted = || world.remote.count(Operation::CreateAccessToken);
    let six = futures::future::join_all((0..6).map(|_| world.create()));
    let ((), answers) = tokio::join!(
        async {
            while counted() < 4 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(counted(), 4);
            world.remote.release(held);
        },
        six
    );
    assert!(answers.iter().all(Result::is_ok));
}

const NEWS: Waits = Waits { next_list: false, list: None, news: true };

#[tokio::test]
async fn a_slot_that_a_failed_request_gives_back_is_news_to_those_that_wait() {
    let mut world = with_room(1).await;
    world.remote.set_fault(refusal("this name will not do").once());
    let held = world.remote.set_fault(hold());
    let (answer, ()) = tokio::join!(world.create(), async {
        world.remote.held(held).await;
        world.waits("agent", NEWS);
        world.remote.release(held);
    });
    assert!(answer.is_err());
    assert_eq!((world.free(), world.world.woken()), (Some(1), vec!["agent".to_owned()]));
}

#[tokio::test]
async fn a_limit_that_holds_no_longer_is_news_to_those_that_wait() {
    let mut world = learnt().await;
    let listed = |world: &Connected, told: Told| world.account.wake_listed(&TOKENS, told);
    listed(&world, world.poll().await);
    world.world.all_told();
    world.waits("agent", NEWS);
    for _ in 0..9 {
        world.clock.pass(61);
        listed(&world, world.poll().await);
    }
    assert_eq!(world.world.woken(), [""; 0]);
    world.clock.pass(61);
    listed(&world, world.poll().await);
    assert_eq!(world.world.woken(), ["agent"]);
}
