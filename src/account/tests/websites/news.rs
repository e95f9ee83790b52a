//! Who is woken by lists and news of a collection.

use super::*;

#[tokio::test]
async fn lists_and_news_of_a_collection_wake_its_users_and_news_of_the_account_all() {
    let mut world = Connected::with_websites(2).await;
    wait(&world, NEXT_LIST);
    world.world.all_told();
    let told = Told { begun: noon(), is_news: true };
    world.account.wake_listed(&keys_of(1), told);
    assert_eq!(world.world.woken(), ["one"]);
    world.account.wake_listed(&TOKENS, told);
    assert_eq!(world.world.woken(), ["tokens"]);

    wait(&world, NEWS);
    world.world.all_told();
    let key = world.create_key(2).await.unwrap().token.id;
    assert_eq!(world.world.woken(), [""; 0]);
    world.account.revoke(&of_website(2), &key).await.unwrap();
    assert_eq!(world.world.woken(), ["two"], "a slot of its website is free");
    wait(&world, NEWS);
    world.account.wake_news();
    assert_eq!(world.world.woken(), ["one", "tokens", "two"]);
}

/// It closes and opens between two times that somebody asks for news.
#[tokio::test]
async fn an_account_that_opens_again_wakes_the_users_of_all_collections_though_nobody_heard_of_its_pause() {
    let mut world = Connected::with_websites(2).await;
    world.account.news();
    world.remote.set_fault(rate_limited(CREATE).of_website(website(1)).once());
    assert!(world.create_key(1).await.is_err());
    wait(&world, NEWS);
    world.world.all_told();
    world.clock.pass(100);
    assert!(world.account.poll_tokens(POLL).await.is_some());
    assert_eq!(world.account.news(), []);
    assert_eq!(world.world.woken(), ["one", "tokens", "two"]);
}

#[tokio::test]
async fn each_collection_tells_of_its_gate_when_it_changes() {
    let world = Connected::with_websites(2).await;
    let news = || world.account.news().into_iter().map(|(_, now)| now).collect::<Vec<_>>();
    assert_eq!(news(), [Availability::Open, Availability::Open, Availability::Open]);
    assert_eq!(news(), []);
    world.remote.set_fault(status(CREATE, 503).of_website(website(1)).times(2));
    world.fails_to_create_keys(1).await;
    assert!(news().iter().all(unavailable) && news().is_empty());
    world.clock.pass(10);
    world.listed().await;
    assert_eq!(news(), [Availability::Open]);
    world.remote.set_fault(rate_limited(CREATE).of_website(website(1)).once());
    assert!(world.create_key(1).await.is_err());
    assert_eq!(news(), [Availability::RateLimited, Availability::RateLimited, Availability::RateLimited]);
}
