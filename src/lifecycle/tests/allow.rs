//! What an account forbids is neither issued nor taken over; what was issued before stays, and all that ends goes on.

mod resources;

use std::collections::BTreeSet;

use crate::api::DeletionPolicy;
use crate::lifecycle::allow::{Allow, Asked, Forbidden, Outside, Place, Rank, Standing};
use crate::lifecycle::decision::{Action, RevokeCause};
use crate::lifecycle::desired::Expiry;
use crate::lifecycle::local::Preflight;
use crate::lifecycle::observed::{Availability, SecretView};
use crate::lifecycle::record::{Cause, Scope};
use crate::lifecycle::verdict::Reason;

use super::scenes::*;
use super::simulator::Simulator;

const SHOP: &str = "65f1c0ffee0123456789abcd";
const BLOG: &str = "65f1c0ffee0123456789abce";

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn permissions(allowed: &[&str]) -> Allow {
    Allow { permissions: Some(set(allowed)), ..Allow::default() }
}

fn websites(allowed: &[&str]) -> Allow {
    Allow { website_ids: Some(set(allowed)), ..Allow::default() }
}

fn asking(asked: &[&str]) -> Scope {
    Scope { permissions: set(asked), ..scope() }
}

fn asking_for(asked: &[&str]) -> Scope {
    Scope { website_ids: set(asked), ..scope() }
}

fn deletion_policies(allowed: &[DeletionPolicy]) -> Allow {
    Allow { deletion_policies: Some(allowed.iter().copied().collect()), ..Allow::default() }
}

/// An access token of this scope.
fn a_token(scope: &Scope) -> Asked<'_> {
    Asked { scope, is_website_key: false, retain: false }
}

/// What `allow` says to this scope, of a resource that is welcome and the first of its namespace.
fn verdict(allow: &Allow, scope: &Scope) -> Option<String> {
    allow.forbids(a_token(scope), &Standing::default()).map(|forbidden| forbidden.why)
}

/// The scene in an account that allows other permissions only.
fn forbidden(scene: Scene) -> Scene {
    scene.change(|s| s.allow = Some(permissions(&["goals:read"])))
}

fn says_not_allowed(scene: &Scene, words: &str) {
    let verdict = scene.says(Reason::NotAllowed, false, words);
    assert!(verdict.message.starts_with("DataFastAccount \"default\" forbids it: "), "{}", verdict.message);
    assert!(verdict.message.contains("have the account's owner allow it"), "{}", verdict.message);
    assert!(scene.rests().requeue.account_changes, "it goes on when the account allows it");
    assert_eq!(scene.rests().requeue.slot, None, "who may not have one waits for no slot");
}

#[test]
fn by_default_all_is_allowed_but_what_makes_tokens_or_lets_people_in() {
    let default = Allow::default();
    for permission in crate::api::Permission::ALL {
        let refusal = verdict(&default, &asking(&[permission.as_str()]));
        match permission.as_str() {
            "*" | "api-keys:read" | "api-keys:write" | "team:write" => {
                let expected = format!("it does not allow {permission} (allow.permissions, by default)");
                assert_eq!(refusal, Some(expected));
            }
            _ => assert_eq!(refusal, None, "{permission}"),
        }
    }
    let mixed = verdict(&default, &asking(&["analytics:read", "api-keys:write", "team:write"]));
    assert_eq!(mixed.unwrap(), "it does not allow api-keys:write, team:write (allow.permissions, by default)");
    assert_eq!(verdict(&default, &asking_for(&[])), None, "for all websites");
}

#[test]
fn where_permissions_are_named_just_those_are_allowed() {
    let cases: [(&[&str], &[&str], Option<&str>); 8] = [
        (&["analytics:read"], &["analytics:read"], None),
        (&["analytics:read", "goals:read"], &["goals:read"], None),
        (&["api-keys:write", "team:write"], &["api-keys:write", "team:write"], None),
        (&["analytics:read"], &["analytics:read", "goals:read"], Some("goals:read")),
        (&["analytics:read"], &["goals:read", "payments:read"], Some("goals:read, payments:read")),
        (&["api-keys:write"], &["api-keys:read"], Some("api-keys:read")),
        (&[], &["analytics:read"], Some("analytics:read")),
        (&["analytics:read", "goals:read"], &["*"], Some("*")),
    ];
    for (allowed, asked, beyond) in cases {
        let expected = beyond.map(|beyond| format!("it does not allow {beyond} (allow.permissions)"));
        assert_eq!(verdict(&permissions(allowed), &asking(asked)), expected, "{asked:?} of {allowed:?}");
    }
}

#[test]
fn everything_needs_everything_to_be_allowed_and_then_all_else_is() {
    let each: Vec<&str> = crate::api::Permission::ALL.iter().map(|p| p.as_str()).filter(|p| *p != "*").collect();
    assert!(verdict(&permissions(&each), &asking(&["*"])).is_some(), "all 18 are less than what DataFast adds later");
    for asked in each.into_iter().chain(["*"]) {
        assert_eq!(verdict(&permissions(&["*"]), &asking(&[asked])), None, "{asked}");
    }
}

#[test]
fn where_websites_are_named_a_token_must_choose_among_them() {
    let cases: [(&[&str], Option<&str>); 5] = [
        (&[SHOP], None),
        (&[SHOP, BLOG], None),
        (&[], Some("a token must name its websites, and without any it is for all (allow.websiteIds)")),
        (&["65f1c0ffee0123456789abcf"], Some("it does not allow website 65f1c0ffee0123456789abcf (allow.websiteIds)")),
        (
            &[SHOP, "65f1c0ffee0123456789abcf"],
            Some("it does not allow website 65f1c0ffee0123456789abcf (allow.websiteIds)"),
        ),
    ];
    for (asked, expected) in cases {
        assert_eq!(verdict(&websites(&[SHOP, BLOG]), &asking_for(asked)).as_deref(), expected, "{asked:?}");
    }
    assert_eq!(verdict(&Allow::default(), &asking_for(&[SHOP])), None, "where none are named, any will do");
}

#[test]
fn a_namespace_that_the_account_is_not_for_gets_nothing_of_it() {
    let outside = Standing { outside: Some(Outside::NotSelected), ahead: 0 };
    let generous = permissions(&["*"]);
    let why = generous.forbids(a_token(&scope()), &outside).unwrap().why;
    assert_eq!(why, "it is not for this namespace (allow.namespaceSelector)");
    let unreadable = Standing { outside: Some(Outside::Unreadable("namespaces is forbidden".into())), ahead: 0 };
    let Forbidden { why, remedy } = generous.forbids(a_token(&scope()), &unreadable).unwrap();
    assert!(why.contains("(allow.namespaceSelector)") && why.ends_with("namespaces is forbidden"), "{why}");
    assert!(remedy.contains("right to get namespaces"));
}

#[test]
fn the_first_of_a_namespace_are_allowed_and_no_more() {
    let cases = [
        (false, "a namespace may have 3 tokens, and others come first (allow.maxTokensPerNamespace)"),
        (true, "a namespace may have 3 website keys, and others come first (allow.maxKeysPerNamespace)"),
    ];
    let scope = scope();
    for (is_website_key, expected) in cases {
        let asked = Asked { is_website_key, ..a_token(&scope) };
        let at = |most, ahead| {
            let (tokens, keys) = if is_website_key { (Some(1), most) } else { (most, Some(1)) };
            let limits = Allow {
                max_tokens_per_namespace: tokens,
                max_keys_per_namespace: keys,
                website_keys: true,
                ..Allow::default()
            };
            limits.forbids(asked, &Standing { ahead, ..Standing::default() })
        };
        for ahead in 0..3 {
            assert_eq!(at(Some(3), ahead), None);
        }
        for ahead in [3, 4, 100] {
            assert_eq!(at(Some(3), ahead).unwrap().why, expected);
        }
        assert_eq!(at(None, 1000), None, "the other kind's limit does not count");
    }
}

#[test]
fn website_keys_are_not_handed_out_unless_the_account_says_so() {
    let (default, opened) = (Allow::default(), Allow { website_keys: true, ..Allow::default() });
    let scope = asking_for(&[SHOP]);
    let key = Asked { is_website_key: true, ..a_token(&scope) };
    let Forbidden { why, remedy } = default.forbids(key, &Standing::default()).unwrap();
    assert!(why.contains("allow.websiteKeys") && remedy.contains("DataFastAccessToken"), "{why} {remedy}");
    assert_eq!(opened.forbids(key, &Standing::default()), None);
    assert_eq!(verdict(&default, &scope), None, "an access token is no website key");

    let issued = Scene::in_sync().change(|s| (s.website, s.allow) = (Some(SHOP), Some(default)));
    says_not_allowed(&issued, "allow.websiteKeys");
    assert!(matches!(issued.deleted().action(), Action::Revoke { .. }), "it ends as ever");
}

#[test]
fn a_deletion_policy_must_be_one_that_the_account_allows() {
    use DeletionPolicy::{Retain, Revoke};
    let cases: [(Allow, [bool; 2]); 4] = [
        (Allow::default(), [true, true]),
        (deletion_policies(&[Revoke]), [true, false]),
        (deletion_policies(&[Retain]), [false, true]),
        (deletion_policies(&[Revoke, Retain]), [true, true]),
    ];
    for (allow, allowed) in cases {
        let forbids = |retain| allow.forbids(Asked { retain, ..a_token(&scope()) }, &Standing::default());
        assert_eq!([false, true].map(|retain| forbids(retain).is_none()), allowed, "{allow:?}");
    }
    let retained = Scene::in_sync().change(|s| {
        (s.desired.retain, s.allow) = (true, Some(deletion_policies(&[Revoke])));
        s.desired.requests.rotate = request("please");
    });
    says_not_allowed(&retained, "allow.deletionPolicies");
}

#[test]
fn a_token_that_may_not_be_left_behind_is_revoked_when_its_resource_goes() {
    let deleted = || Scene::in_sync().deleted().change(|s| s.desired.retain = true);
    let revoke_only = Some(deletion_policies(&[DeletionPolicy::Revoke]));
    let forbidden = deleted().change(|s| s.allow = revoke_only.clone());
    assert_eq!(forbidden.action(), revoke(1, RevokeCause::Deleted));
    let mut simulator = Simulator::new(forbidden);
    simulator.settle();
    assert!(simulator.released && simulator.own().is_empty());
    assert!(matches!(simulator.scene.secret, SecretView::Missing), "nor is its Secret");
    assert_eq!(deleted().change(|s| s.allow = Some(Allow::default())).action(), Action::Release);

    let unknown = deleted().change(|s| (s.allow, s.availability) = (None, Availability::Connecting));
    assert!(unknown.pauses().account_changes);
    let nowhere = deleted().change(|s| (s.allow, s.availability) = (None, Availability::NotFound));
    assert_eq!(nowhere.action(), Action::Release, "without an account nothing forbids it");
    let abandoned = deleted().change(|s| (s.allow, s.desired.abandon) = (revoke_only, true));
    assert_eq!(abandoned.action(), Action::DeleteSecret, "what a person asks for is done without DataFast");
}

#[test]
fn who_has_a_token_comes_before_who_has_none_and_then_the_older_one() {
    let rank = |place, created: i64, uid: &str| Rank { place, created: Some(ago(-created)), uid: uid.to_owned() };
    let order = [
        rank(Place::Taken, 2, "b"),
        rank(Place::Taken, 9, "a"),
        rank(Place::Recorded, 1, "z"),
        rank(Place::Nothing, 0, "y"),
        rank(Place::Nothing, 0, "z"),
        rank(Place::Nothing, 1, "x"),
    ];
    assert!(order.is_sorted(), "an annotation, which a tenant can write, puts nobody before one that has a token");
}
