//! Every state in which a resource rests, and every one in which an operator can be killed on the way.

use datafast_harness::{eventually, wait_gone};
use datafast_operator::api::names;
use datafast_sandbox::{AccountOptions, Fault, ForeignKey, Kind, Operation};
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::stored::{
    Outcome::{self, Goes, Issues, Stays},
    Stored, StoredResource, StoredWorld,
};
use crate::world::{
    ARGS, Issued, Plane, Setup,
    Subject::{AccessToken, WebsiteKey},
    WAIT, World, start,
};

/// A hundred years: it is not over when somebody reads this in a later version.
const LONG: &str = "876000h";

/// A website without a free slot.
const FULL: &str = "65f1c0ffee0123456789abce";

/// Lets an operator of this version come to all these states, kills it, and returns what is stored then.
pub(super) async fn record() -> Stored {
    let plane = Plane::take().await;
    let operator = start(&plane.cluster, None, &ARGS).await;
    let world = async |kind, limit: usize| {
        let account = AccountOptions { token_limit: Some(limit), ..AccountOptions::default() };
        let spec = Some(json!({ "tokenLimit": limit }));
        World::on(plane.cluster.clone(), Setup { kind, account, spec, ..Setup::default() }).await
    };
    let settled = world(AccessToken, 40).await;
    // What hangs takes a turn: an account has four, of which a website may have two.
    let unfinished = [
        (AccessToken, &[Story::Unsent, Story::Lost, Story::LostRotation, Story::Deletion][..]),
        (WebsiteKey, &[Story::Lost, Story::LostRotation]),
        (WebsiteKey, &[Story::Unsent, Story::Deletion]),
        (WebsiteKey, &[Story::LostRoll]),
    ];
    let unfinished = join_all(unfinished.map(async |(kind, stories)| (world(kind, 20).await, stories))).await;

    let prepare = join_all(unfinished.iter().map(async |(w, stories)| {
        for story in *stories {
            story.prepare(w).await;
        }
    }));
    let (resources, vanished, _) = tokio::join!(settle(&settled), vanishing(&settled), prepare);
    settled.horizon_passes().await;
    eventually("the first use and the unclaimed token show", WAIT, || async {
        let account = settled.account_resource().await.status.unwrap_or_default();
        let plain = settled.resource("plain").await.status.unwrap_or_default();
        if account.unclaimed.len() == 1 && plain.last_used_at.is_some() { Ok(()) } else { Err((account, plain)) }
    })
    .await;

    join_all(unfinished.iter().map(async |(w, stories)| {
        for story in *stories {
            story.hang(w).await;
        }
    }))
    .await;
    operator.kill().await.unwrap();
    settled.account.delete_behind_back(&vanished.token.id);

    let mut resources = resources;
    resources.push(StoredResource { kind: AccessToken, name: "vanished".to_owned(), outcome: Issues });
    let mut worlds = vec![StoredWorld::of(&settled, resources)];
    worlds.extend(unfinished.iter().map(|(w, stories)| {
        let resource = |story: &Story| stored(w, &story.name(), story.outcome());
        StoredWorld::of(w, stories.iter().map(resource).collect())
    }));
    Stored::record(&plane.cluster, worlds).await
}

fn stored(w: &World, name: &str, outcome: Outcome) -> StoredResource {
    StoredResource { kind: w.kind, name: name.to_owned(), outcome }
}

/// Brings resources of both kinds to rest in one namespace; those of the second have names of their own.
async fn settle(w: &World) -> Vec<StoredResource> {
    let (tokens, keys) = (w.about(AccessToken), w.about(WebsiteKey));
    for _ in 0..10 {
        w.account.add_website_key_of(FULL, ForeignKey::default());
    }
    let (of_both, of_keys, _, _) =
        tokio::join!(settle_kind(&tokens, ""), settle_kind(&keys, "key-"), refused(&tokens), abandoned(&tokens));
    let mut resources = of_both;
    resources.extend(of_keys);
    resources.push(stored(&tokens, "not-allowed", Stays));
    rolled(&keys).await;
    resources.push(stored(&keys, "rolled", Stays));
    waiting(&keys).await;
    resources.push(stored(&keys, "waiting", Stays));
    resources
}

#[expect(clippy::too_many_lines, reason = "a story, from its beginning to its end")]
async fn settle_kind(w: &World, prefix: &str) -> Vec<StoredResource> {
    let name = |state: &str| format!("{prefix}{state}");
    let issued = async |state: &str, spec: Value| {
        let mut whole = json!({ "permissions": ["analytics:read", "goals:read"] });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        w.apply(&name(state), whole).await;
        w.issued(&name(state)).await
    };
    let plain = async {
        let labels = json!({ "team": "growth" });
        let annotations = json!({ "example.com/why": "reports" });
        let data = json!({ "env": "T=$(TOKEN) I=$(TOKEN_ID) D=$(DISPLAY_KEY) $$(" });
        let secret = json!({ "key": "DATAFAST", "labels": labels, "annotations": annotations, "data": data });
        let plain = issued("plain", json!({ "secret": secret })).await;
        w.account.use_token(&plain.token.id, Timestamp::now());
    };
    let rotated = async {
        w.run("Deployment", &name("web")).await;
        let targets = json!([{ "kind": "Deployment", "name": name("web") }]);
        let spec = json!({ "rotation": { "overlap": LONG }, "rolloutRestart": targets });
        let before = issued("rotated", spec).await;
        w.annotate(&name("rotated"), json!({ names::ROTATE: "1" })).await;
        renewed(w, &name("rotated"), &before).await;
    };
    let regular = async {
        let rotation = json!({ "every": LONG, "overlap": "1h", "maxOverlap": "2h", "whenFull": "RevokeFirst" });
        issued("regular", json!({ "rotation": rotation })).await;
    };
    let revoked = async {
        let before = issued("revoked", json!({})).await;
        w.annotate(&name("revoked"), json!({ names::REVOKE_NOW: "leaked" })).await;
        renewed(w, &name("revoked"), &before).await;
        eventually("the leaked one is gone", WAIT, || async {
            let retiring = w.look(&name("revoked")).await.map(|issued| issued.retiring());
            if retiring.as_ref().is_ok_and(Vec::is_empty) { Ok(()) } else { Err(retiring) }
        })
        .await;
    };
    let imported = async {
        let (id, key) = w.made_by_hand(&["analytics:read", "goals:read"]);
        w.create_secret(&name("imported"), json!({ names::TOKEN_ID: id }), json!({ "token": key })).await;
        issued("imported", json!({})).await;
    };
    let suspended = async {
        issued("suspended", json!({})).await;
        w.patch_spec(&name("suspended"), json!({ "suspend": true })).await;
        w.says(&name("suspended"), "Suspended").await;
    };
    let retained = async {
        let secret = json!({ "name": name("kept") });
        issued("retained", json!({ "deletionPolicy": "Retain", "expiresAfter": LONG, "secret": secret })).await;
    };
    let conflict = async {
        w.create_secret(&name("conflict"), json!({}), json!({ "token": "somebody's" })).await;
        w.apply(&name("conflict"), json!({ "permissions": ["analytics:read"] })).await;
        w.says(&name("conflict"), "SecretConflict").await;
    };
    tokio::join!(plain, rotated, regular, revoked, imported, suspended, retained, conflict);
    let states = ["plain", "rotated", "regular", "revoked", "imported", "suspended", "retained", "conflict"];
    states.map(|state| stored(w, &name(state), Stays)).into()
}

/// Waits until a resource has another token, and says that it has answered what was asked for.
async fn renewed(w: &World, name: &str, before: &Issued) {
    w.renewed(name, before).await;
    eventually("the request is answered", WAIT, || async {
        let status = w.resource(name).await.status.unwrap_or_default();
        if status.rotate_request.is_some() { Ok(()) } else { Err(status) }
    })
    .await;
}

async fn refused(w: &World) {
    w.apply("not-allowed", json!({ "permissions": ["team:write"] })).await;
    w.says("not-allowed", "NotAllowed").await;
}

/// Leaves a token that nobody claims.
async fn abandoned(w: &World) {
    w.apply("abandoned", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("abandoned").await;
    w.annotate("abandoned", json!({ names::ABANDON: "true" })).await;
    w.delete("abandoned").await;
    wait_gone(&w.objects(), "abandoned", WAIT).await;
}

async fn rolled(w: &World) {
    w.apply("rolled", json!({ "rotation": { "strategy": "Roll" } })).await;
    let before = w.issued("rolled").await;
    w.annotate("rolled", json!({ names::ROTATE: "1" })).await;
    eventually("it is rolled", WAIT, || async {
        let issued = w.look("rolled").await?;
        if issued.token.key != before.token.key { Ok(()) } else { Err(format!("{:?}", issued.resource.status)) }
    })
    .await;
}

async fn waiting(w: &World) {
    let mut manifest = w.manifest("waiting", json!({}));
    manifest["spec"]["websiteId"] = json!(FULL);
    crate::world::apply(&w.objects(), "waiting", &manifest).await;
    w.says("waiting", "WaitingForSlot").await;
}

/// One whose token is to be deleted at DataFast while no operator is there.
async fn vanishing(w: &World) -> Issued {
    w.apply("vanished", json!({ "permissions": ["analytics:read"] })).await;
    w.issued("vanished").await
}

/// What an operator is killed in, while it waits for an answer.
#[derive(Clone, Copy, Debug)]
enum Story {
    /// The request for the first token did not arrive.
    Unsent,
    /// The first token was issued.
    Lost,
    /// Another token was issued.
    LostRotation,
    /// The key has another value.
    LostRoll,
    /// The request to revoke did not arrive.
    Deletion,
}

impl Story {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    fn outcome(self) -> Outcome {
        if matches!(self, Self::Deletion) { Goes } else { Issues }
    }

    /// Up to the moment before.
    async fn prepare(self, w: &World) {
        let rotation = match self {
            Self::Unsent | Self::Lost => return,
            Self::LostRoll => json!({ "strategy": "Roll" }),
            Self::LostRotation | Self::Deletion => json!({ "overlap": "0s" }),
        };
        w.apply(&self.name(), json!({ "permissions": ["analytics:read"], "rotation": rotation })).await;
        w.issued(&self.name()).await;
    }

    /// Begins, and waits until DataFast has the request.
    async fn hang(self, w: &World) {
        let operation = match self {
            Self::Unsent | Self::Lost | Self::LostRotation => Operation::CreateAccessToken,
            Self::LostRoll => Operation::RollWebsiteKey,
            Self::Deletion => Operation::DeleteAccessToken,
        };
        let fault = Fault::new(operation, Kind::Hang).once();
        let asked = w.count(operation);
        w.set_fault(if matches!(self, Self::Unsent | Self::Deletion) { fault } else { fault.after_effect() });
        match self {
            Self::Unsent | Self::Lost => drop(w.apply(&self.name(), json!({ "permissions": ["goals:read"] })).await),
            Self::LostRotation | Self::LostRoll => w.annotate(&self.name(), json!({ names::ROTATE: "1" })).await,
            Self::Deletion => w.delete(&self.name()).await,
        }
        eventually(&format!("{self:?} hangs"), WAIT, || async { (w.count(operation) > asked).then_some(()) }).await;
    }
}
